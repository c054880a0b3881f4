"""Two evaluations of the same samples, compared in pairs."""

import json

import pytest

from mixtune.evaluate.against import check_finished, compare_evaluations, write_against
from mixtune.evaluate.store import write_json


def chart(name: str, score: float, **changes):
    facts = {"id": f"chartqa/{name}", "task": "chartqa/human", "benchmark": "chartqa", "protocol": "official"}
    facts |= {"target": "12", "answers": ["12"], "cluster": "", "details": {}, "rank_correct": None}
    return {**facts, "score": score, **changes}


def page(name: str, score: float):
    return chart(name, score, id=f"docvqa/{name}", task="docvqa", benchmark="docvqa", cluster=f"page {int(name) // 2}")


def plain(name: str, right: bool):
    return {"id": name, "task": "clock", "target": "3", "rank_correct": right, "greedy_correct": None}


def finished(folder, rows):
    folder.mkdir()
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_json(folder / "results.json", {})
    return folder


def test_each_kind_of_score_gets_its_test(tmp_path) -> None:
    mine = [chart(str(n), float(n < 8)) for n in range(10)] + [page(str(n), 0.9) for n in range(8)]
    other = [chart(str(n), float(n < 1)) for n in range(12)] + [page(str(n), 0.6) for n in range(8)]
    mine, other = [*mine, plain("p", True), plain("q", False)], [*other, plain("p", False), plain("q", False)]
    found = compare_evaluations(mine, finished(tmp_path / "other", other))
    chartqa = found["benchmarks"]["chartqa"]
    cell = chartqa["numbers"]["relaxed_accuracy"]
    assert (chartqa["n"], cell["test"], cell["first"], cell["second"]) == (10, "exact McNemar", 0.8, 0.1)
    assert cell["p_value"] == pytest.approx(2 * 0.5**7)
    anls = found["benchmarks"]["docvqa"]["numbers"]["anls"]
    assert anls["test"] == "paired permutation" and anls["difference"]["value"] == pytest.approx(0.3)
    assert anls["p_value"] == pytest.approx(2 / 16, abs=0.02)  # four pages: all sixteen ways to exchange them
    rank = found["tasks"]["rank"]
    assert (rank["tasks"], rank["n"], rank["first"], rank["second"]) == (1, 2, 0.5, 0.0) and "greedy" not in found[
        "tasks"
    ]
    path = write_against(tmp_path, found)
    assert json.loads(path.read_text()) == found


def test_what_cannot_be_compared_is_named(tmp_path) -> None:
    other = finished(tmp_path / "other", [chart("1", 1.0)])
    with pytest.raises(ValueError, match="no sample in common"):
        compare_evaluations([chart("2", 1.0)], other)
    with pytest.raises(ValueError, match="no sample in common"):
        compare_evaluations([plain("p", True)], other)
    with pytest.raises(ValueError, match="'chartqa/1': protocol: 'lmms-eval' here, 'official' there"):
        compare_evaluations([chart("1", 1.0, protocol="lmms-eval")], other)
    with pytest.raises(ValueError, match="target: '13' here, '12' there"):
        compare_evaluations([chart("1", 1.0, target="13")], other)
    (other / "results.json").unlink()
    with pytest.raises(ValueError, match=r"holds no finished evaluation \(results.json is missing\)"):
        check_finished(other)
