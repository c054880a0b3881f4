"""The rules of routing, run on the user's own model."""

from mixtune.check.examples import Example
from mixtune.check.results import RuleResult
from mixtune.check.rules import CHECKS, check_rules
from mixtune.check.run import CheckReport, CheckRequest, run_check

__all__ = ["CHECKS", "CheckReport", "CheckRequest", "Example", "RuleResult", "check_rules", "run_check"]
