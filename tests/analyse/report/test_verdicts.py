"""The comparison's sentences: each kind of result gets its words, and no sentence says more than its numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from fake_comparison import ARMS, comparison
from mixtune.analyse.report.compared import Compared
from mixtune.analyse.report.verdicts import caveats, comparison_answer, floor_sentences

FEW = {"lora": (0.0, 0.0), "specialists": (0.045, None), "mixlora": (0.031, 0.004)}


def compared(arms=FEW, /, **changes) -> Compared:
    seeds = changes.pop("seeds", 3)
    return Compared(
        content={**comparison(arms, seeds=seeds, blind=changes.pop("blind", True)), **changes}, folder=Path()
    )


def words(found: Compared) -> dict[str, str]:
    """Text by topic."""
    return {said.topic: said.text for said in comparison_answer(found)}


def test_a_decided_loss_and_a_decided_win() -> None:
    said = words(compared())
    assert said[""].startswith(
        "lora, trained on all tasks at once, is 4.5 points (95 % interval 3.5 to 5.5) behind spec"
    )
    assert said[""].endswith("; mixlora is 3.1 points (95 % interval 2.1 to 4.1) ahead of lora on seen tasks.")
    together = said["Alone or together"]
    assert together.startswith(
        "Trained on 21 seen tasks at once, lora is behind the specialists by more than the noise: 62.0 % right against "
        "66.5 % (−4.5 points, 95 % interval −5.5 to −3.5, p < 0.001 after Holm's correction, 3 seeds)."
    )
    assert "Against specialists, mixlora stands at −1.4 points" in together and together.endswith("still behind.")
    assert "mixlora is ahead of lora by more than the noise: +3.1 points" in said["Arms, seen tasks"]
    assert "mixlora is no further from lora than the noise: +0.4 points" in said["Arms, unseen tasks"]


def test_a_decided_gain_from_training_together() -> None:
    said = words(compared({**FEW, "specialists": (-0.05, None)}))
    assert "is 5.0 points (95 % interval 4.0 to 6.0) ahead of specialists" in said[""]
    assert "lora is ahead of the specialists by more than the noise" in said["Alone or together"]
    assert "Against specialists" not in said["Alone or together"]


def test_a_tie_is_called_noise_and_evidence_of_nothing() -> None:
    said = words(compared({**FEW, "specialists": (0.002, None), "mixlora": (0.001, 0.001)}))
    assert said[""] == (
        "lora, trained on all tasks at once, and specialists differ by no more than noise; "
        "mixlora and lora differ on seen tasks by no more than noise."
    )
    assert said["Ties"].startswith("A tie is expected on a natural mix")
    assert "behind" not in " ".join(said.values()) and "ahead" not in " ".join(said.values())


def test_an_interval_without_zero_is_not_enough() -> None:
    """Holm's correction may undo what an interval alone would call a difference; words follow the file's verdict."""
    found = compared()
    gap = found.last["differences"]["mixlora"]["splits"]["seen"]
    gap.update(p_holm=0.08, decided=False)
    assert gap["low"] > 0
    assert "no further from lora than the noise" in words(found)["Arms, seen tasks"]
    assert "by no more than noise" in words(found)[""]


def test_several_mixtures_are_counted_in_the_title() -> None:
    behind = words(compared({**FEW, "mixlora": (-0.05, None), "mixlora-released": (-0.06, None)}))[""]
    assert "all 2 mixtures are behind lora on seen tasks" in behind
    none = words(compared({**FEW, "mixlora": (0.0, 0.0), "mixlora-released": (-0.06, 0.0)}))[""]
    assert "none of the 2 mixtures is ahead of lora on seen tasks by more than noise" in none


def test_the_best_of_several_is_called_that_and_so_is_plain_lora_that_does_as_well() -> None:
    title = words(compared(ARMS))[""]
    assert title.endswith(
        "mixlora, the best of 3 mixtures, is 3.1 points (95 % interval 2.1 to 4.1) ahead of lora on seen tasks; so is "
        "lora-2x, without a mixture, by 2.8 points (95 % interval 1.8 to 3.8)."
    ), title


def test_a_mixture_that_stands_higher_by_luck_is_named_beside_the_one_that_is_decided() -> None:
    found = compared(ARMS)
    gap = found.last["differences"]["mixlora-released"]["splits"]["seen"]
    gap.update(mean=0.2, decided=False)
    title = words(found)[""]
    assert "mixlora, of 3 mixtures the best that is told from lora, is 3.1 points" in title
    assert "mixlora-released stands higher, but is not decided" in title


def test_controls_are_no_mixtures_that_could_win() -> None:
    settings = {**compared(ARMS).content["settings"]}
    settings["arms"] = {"mixlora-published": {"adapter": {"router_trainable": False}}}
    assert "the best of 2 mixtures" in words(compared(ARMS, settings=settings))[""]
    assert "mixlora-published" in words(compared(ARMS, settings=settings))["Arms, seen tasks"]
    settings["arms"] = {"mixlora": {"adapter": {"random_routing": True}}}
    assert "none of the 2 mixtures is ahead" in words(compared(ARMS, settings=settings))[""]


def test_specialists_that_saw_more_are_said_to_have() -> None:
    found = compared()
    found.facts["lora"]["samples"], found.facts["specialists"]["samples"] = 6400, 6400 * 21
    assert "behind specialists, which saw each task 21 times as often; " in words(found)[""]
    assert any("saw that task 21 times as often as the joint run did" in text for text in caveats(found))
    found.facts["specialists"]["samples"] = 6400
    assert "behind specialists; " in words(found)[""]
    assert "which saw each task as often" not in words(found)["Alone or together"]
    found.facts["less"] = {**found.facts["specialists"], "specialist_steps": "share"}
    found.last["gaps"]["less"] = found.last["gaps"]["specialists"]
    assert (
        "Against less, which saw each task as often as it did, it stands at −4.5" in words(found)["Alone or together"]
    )


def test_a_larger_mixture_stands_beside_lora_of_its_size() -> None:
    assert "8.6 times as many parameters as lora; plain LoRA of about that size" in words(compared(ARMS))["Size"]
    assert "lora-params +1.2 points" in words(compared(ARMS))["Size"]
    assert words(compared())["Size"].endswith("no plain LoRA of that size was compared.")


def test_one_seed_is_said_wherever_a_difference_is() -> None:
    found = compared(seeds=1)
    said = words(found)
    assert said[""].endswith("(one seed).")
    for topic in ("Alone or together", "Arms, seen tasks", "Arms, unseen tasks"):
        assert "one seed" in said[topic], topic
    assert any(text.startswith("One seed:") for text in caveats(found))
    assert any(text.startswith("3 seeds an arm") for text in caveats(compared()))
    uneven = compared()
    uneven.last["arms"]["mixlora"]["seeds"] = [0]
    uneven.last["differences"]["mixlora"]["splits"]["seen"]["by_seed"] = [0.03]
    assert any(text.startswith("1 to 3 seeds an arm") for text in caveats(uneven))
    assert words(uneven)[""].endswith("(one seed).") and "one seed" in words(uneven)["Arms, seen tasks"]


@pytest.mark.parametrize(
    ("arms", "expected"),
    [
        ({"lora": (0.0, 0.0), "mixlora": (0.03, 0.0)}, "the comparison has no specialists"),
        ({"lora": (0.0, 0.0), "specialists": (0.04, None)}, "no other arm has finished"),
        ({"specialists": (0.04, None), "mixlora": (0.03, 0.0)}, "lora has not finished"),
    ],
)
def test_missing_parts_are_said_and_nothing_is_claimed_of_them(arms, expected) -> None:
    found = compared(arms, arms={name: comparison()["arms"][name] for name in {*arms, "lora"}})
    assert expected in " ".join(words(found).values())


def test_specialists_that_are_still_to_come_are_said() -> None:
    found = compared({"lora": (0.0, 0.0), "mixlora": (0.03, 0.0)}, arms=comparison()["arms"])
    assert "no specialists have finished" in words(found)["Alone or together"]


def test_untuned_models_guessing_and_blind_controls_stand_beside() -> None:
    seen, unseen = floor_sentences(compared(ARMS))
    assert seen.startswith("Seen tasks: guessing would reach 20.0 %, base reaches 20.0 %, specialists with shuffled")
    assert "lora with shuffled pictures (first seed) 31.0 %" in unseen
    assert not any("No blind control" in text for text in caveats(compared()))
    assert any("No blind control" in text for text in caveats(compared(blind=False)))


def test_what_limits_the_answer_is_listed() -> None:
    found = compared(ARMS)
    found.content["runs"][0]["done"] = False
    told = " ".join(caveats(found))
    assert "(base)" in told
    assert "A specialist spends all its steps on one task" in told
    assert f"1 of {len(found.content['runs'])} runs did not finish" in told
    assert "edge of its grid for mixlora:" in told
