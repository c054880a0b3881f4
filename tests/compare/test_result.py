"""comparison.json against its own runs' files: accuracies, differences and gaps counted again by hand."""

import json

import numpy as np
import pytest

from mixtune.evaluate.store import read_lines


def accuracy(folder, task):
    rows = [row for row in read_lines(folder / "evaluation" / "samples.jsonl") if row["task"] == task]
    return np.mean([row["rank_correct"] for row in rows])


def test_means_are_those_of_the_runs(finished):
    root, _, _, ended = finished
    (entry,) = ended.result["results"]
    assert entry["data_size"] is None and set(entry["arms"]) == {"untuned", "lora", "mixlora", "specialists"}
    for arm in ("lora", "mixlora"):
        for task in ("colour", "yesno"):
            by_seed = [accuracy(root / "out" / arm / f"seed-{seed}", task) for seed in (0, 1)]
            assert entry["arms"][arm]["tasks"][task]["by_seed"] == pytest.approx(by_seed)
            assert entry["arms"][arm]["tasks"][task]["mean"] == pytest.approx(np.mean(by_seed))
    untuned = entry["arms"]["untuned"]
    assert untuned["seeds"] == [0] and untuned["splits"]["seen"]["seeds"] is None
    assert entry["tasks"]["colour"] == {"domain": "", "split": "seen", "n": 6, "chance": 0.25}
    assert untuned["splits"]["seen"]["chance"] == (0.25 + 0.5) / 2


def test_each_task_is_answered_by_its_specialist(finished):
    root, _, _, ended = finished
    found = ended.result["results"][0]["arms"]["specialists"]["tasks"]
    for task in ("colour", "yesno"):
        own = [accuracy(root / "out" / "specialists" / f"seed-{seed}" / task, task) for seed in (0, 1)]
        assert found[task]["by_seed"] == pytest.approx(own)
        rows = read_lines(root / "out" / "specialists" / "seed-0" / task / "evaluation" / "samples.jsonl")
        assert {row["task"] for row in rows} == {task}


def test_differences_and_gaps_are_of_means(finished):
    _, _, _, ended = finished
    (entry,) = ended.result["results"]
    means = {arm: found["splits"]["seen"]["mean"] for arm, found in entry["arms"].items()}
    assert set(entry["differences"]) == {"untuned", "mixlora", "specialists"} and entry["baseline"] == "lora"
    for arm, found in entry["differences"].items():
        seen = found["splits"]["seen"]
        assert seen["mean"] == pytest.approx(means[arm] - means["lora"])
        assert seen["low"] <= seen["mean"] <= seen["high"] and seen["p_holm"] >= seen["p"] >= seen["p_questions"]
        assert found["seeds"] == [0, 1]
    gaps = entry["gaps"]["specialists"]
    assert set(gaps) == {"lora", "mixlora"}
    assert gaps["lora"]["splits"]["seen"]["mean"] == pytest.approx(means["lora"] - means["specialists"])


def test_arms_say_what_they_train_and_cost(finished):
    _, _, _, ended = finished
    arms = ended.result["arms"]
    assert arms["untuned"]["parameters"] is None and arms["untuned"]["steps"] == [0]
    assert arms["lora"]["parameters"]["factors"] == 2 * arms["lora"]["parameters"]["active"] // 2
    assert arms["mixlora"]["num_factors"] == 4 and "num_factors" not in arms["lora"]
    assert arms["specialists"]["models"] == 2 and arms["lora"]["models"] == 1
    assert arms["lora"]["samples"] == 6 and arms["specialists"]["samples"] == 12
    assert all(
        arms[arm]["train_seconds"] > 0 and arms[arm]["peak_memory"]["host"] > 10**8 for arm in ("lora", "mixlora")
    )
    assert {arms[arm]["scale"] for arm in ("lora", "mixlora", "specialists")} == {2.0}


def test_it_says_what_was_matched_and_made_of(finished):
    result = finished[-1].result
    assert result["matched"][0] == "Every arm takes 3 optimizer steps of 2 samples."
    assert "specialists: each specialist takes all these steps, on its task alone." in result["matched"]
    assert result["format"] == 1 and result["seeds"] == [0, 1] and result["settings"]["scale"] == 2.0
    assert {"p", "p_holm", "decided"} <= set(result["methods"])
    assert "torch" in result["environment"] and {"interval", "p_questions", "p_seeds"} <= set(result["methods"])
    assert result["published"]["rows"][0]["row"]["model"] == "LLaVA_Align"
    json.dumps(result, allow_nan=False)
