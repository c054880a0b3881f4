"""Tables of benchmarks and comparisons."""

import io

from rich.console import Console

from mixtune.evaluate.console import comparison_table, print_benchmarks, without_benchmarks


def shown(thing) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    print_benchmarks(console, thing) if isinstance(thing, dict) else console.print(thing)
    return console.export_text()


def test_shares_are_per_cent_and_points_are_points() -> None:
    share = {"value": 0.5, "low": 0.25, "high": 0.75, "unit": "share", "n": 2}
    points = {"value": 1345.86, "low": 1300.0, "high": 1400.0, "unit": "points", "n": 4}
    tables = {
        "mme": {
            "protocol": "official",
            "n": 4,
            "size": 2374,
            "headlines": ["total"],
            "numbers": {"total": points, "points/OCR": points},
        },
        "vsr": {"protocol": "vlmevalkit", "n": 2, "size": 2, "headlines": ["accuracy"], "numbers": {"accuracy": share}},
    }
    text = shown({"benchmarks": tables, "mmavg": {**share, "low": 0.25}})
    assert "4 of 2374 questions" in text and "2 of 2 " not in text
    assert "1345.9" in text and "1300.0 to 1400.0" in text and "points/OCR" in text
    assert "50.0" in text and "25.0 to 75.0" in text and "vlmevalkit" in text and "MMAvg" in text
    assert shown({"tasks": {}}).strip() == ""
    assert max(map(len, text.splitlines())) <= 80


def test_a_benchmark_that_was_not_answered_says_so() -> None:
    table = {"protocol": "official", "n": 3, "size": None, "headlines": [], "numbers": {}}
    assert "no options to rank" in shown({"benchmarks": {"textvqa": table}})


def test_benchmarks_are_left_out_of_the_table_of_tasks() -> None:
    results = {"tasks": {"pope/random": {"split": "pope"}, "clock": {"split": "seen"}}, "benchmarks": {"pope": {}}}
    found = without_benchmarks({**results, "summary": {"pope": 1, "seen": 2}})
    assert (set(found["tasks"]), found["summary"]) == ({"clock"}, {"seen": 2})


def test_a_comparison_shows_both_sides_and_the_test() -> None:
    gap = {"value": -0.125, "low": -0.2, "high": 0.01}
    cell = {
        "n": 8,
        "first": 0.5,
        "second": 0.625,
        "difference": gap,
        "p_value": 0.03125,
        "test": "exact McNemar",
        "unit": "share",
    }
    task = {**cell, "n": 9, "tasks": 3}
    del task["first"], task["second"]
    found = {
        "against": "runs/lora",
        "benchmarks": {"vsr": {"n": 8, "numbers": {"accuracy": cell}}},
        "tasks": {"rank": task},
    }
    text = shown(comparison_table(found))
    assert "against runs/lora" in text and "-12.5" in text and "-20.0 to 1.0" in text and "0.0312" in text
    assert "mean of 3 tasks" in text
