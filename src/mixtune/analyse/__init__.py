"""Analysis: what the models did, side by side, as numbers, pictures and one page."""

from mixtune.analyse.console import results_table
from mixtune.analyse.report import ReportSettings, write_report
from mixtune.analyse.runs import RunFolders, find_runs
from mixtune.analyse.selections import Usage, read_usage

__all__ = [
    "ReportSettings",
    "RunFolders",
    "Usage",
    "find_runs",
    "read_usage",
    "results_table",
    "write_report",
]
