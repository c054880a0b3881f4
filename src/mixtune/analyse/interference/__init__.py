"""Task interference: what a step on one task does to another's loss, bank by bank (arXiv 2402.15896; METHODS §1)."""

from mixtune.analyse.interference.run import analyse_interference, measure
from mixtune.analyse.interference.settings import InterferenceSettings

__all__ = ["InterferenceSettings", "analyse_interference", "measure"]
