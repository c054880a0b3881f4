"""What limits the opening answer is said under it."""

from __future__ import annotations

import pytest

from fake_analyses import interference, write_analyses
from fake_comparison import SEEN, comparison, write_comparison
from mixtune.analyse import ReportSettings
from mixtune.analyse.report.answers import judge_by
from mixtune.analyse.report.material import find_material


@pytest.mark.parametrize(("number", "said"), [(2, True), (9, True), (10, False), (50, False)])
def test_intervals_from_few_observations_are_called_too_narrow(number, said, tmp_path) -> None:
    content, analysis = comparison(), interference(SEEN[:3], silent=0)
    content["results"][-1]["tasks"][SEEN[0]]["n"] = number
    analysis["tasks"][1]["measured"] = number
    write_comparison(tmp_path, content, points=0)
    write_analyses(tmp_path, interference=analysis)
    told = judge_by(find_material(tmp_path, ReportSettings()))
    words = [f"Only {number} {what} a task: these intervals" for what in ("questions", "measured samples")]
    assert [any(text.startswith(start) for text in told) for start in words] == [said, said] and all(told)


def test_tasks_called_seen_that_nothing_trained_on_are_told(tmp_path) -> None:
    content = comparison()
    content["results"][-1]["tasks"] |= {name: content["results"][-1]["tasks"][SEEN[0]] for name in "abcde"}

    def told() -> str:
        return " ".join(judge_by(find_material(tmp_path, ReportSettings())))

    write_comparison(tmp_path, content, points=0)
    assert "no run trained" not in told()  # without logs nobody knows
    write_comparison(tmp_path, content, points=2)
    assert f"Of {len(SEEN) + 5} tasks that the questions call seen, no run trained on 5: a, b, c, d, …." in told()
    write_comparison(tmp_path, comparison(), points=2)
    assert "no run trained" not in told()
