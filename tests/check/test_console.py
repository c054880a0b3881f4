"""The table of the checks in a terminal of 80 columns."""

from io import StringIO

from rich.console import Console

from mixtune.check import CHECKS, RuleResult
from mixtune.check.console import print_rules
from mixtune.check.rules import RULES


def test_every_name_is_whole_and_every_reason_is_told():
    kept = {0: True, 1: False, 2: None}
    results = [
        RuleResult(
            rule=RULES[check.rule], check=check.name, kept=kept[number % 3], difference=1.25e-6,
            reason="" if number % 3 == 0 else f"[because] {number}",
        )
        for number, check in enumerate(CHECKS)
    ]  # fmt: skip
    console = Console(file=StringIO(), width=80)
    print_rules(console, results)
    shown = console.file.getvalue()
    table = shown[: shown.index("does not apply other")]
    assert max(map(len, table.splitlines())) <= 80
    for check in CHECKS:
        assert check.name in table
    assert "1.2e-06" in table or "1.3e-06" in table
    assert all(f"[because] {number}" in shown for number in range(len(CHECKS)) if number % 3)
    assert shown.rstrip().endswith("9 checks kept, 9 broken, 8 do not apply")
