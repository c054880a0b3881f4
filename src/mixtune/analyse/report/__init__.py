"""The report: one page of everything that lies in a folder, in the order a reader asks."""

from mixtune.analyse.report.settings import ReportSettings
from mixtune.analyse.report.write import write_report

__all__ = ["ReportSettings", "write_report"]
