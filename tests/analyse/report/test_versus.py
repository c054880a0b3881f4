"""Every arm in words: none is left out, and none is called different that the file does not decide."""

from __future__ import annotations

from pathlib import Path

from fake_comparison import ARMS, comparison
from mixtune.analyse.report.compared import Compared
from mixtune.analyse.report.versus import TIE, arms_sentence, is_conflict, matched_sentence, tie_sentence

FEW = {"lora": (0.0, 0.0), "specialists": (0.045, None), "mixlora": (0.031, 0.004)}


def compared(arms=ARMS, /, **changes) -> Compared:
    return Compared(content={**comparison(arms), **changes}, folder=Path())


def asked(*benchmarks: str) -> dict:
    return {"settings": {"evaluate": {"benchmarks": list(benchmarks)}}}


def test_every_arm_is_named_with_its_interval() -> None:
    found = compared()
    assert arms_sentence(found, "seen") == (
        "On the 21 seen tasks, 4 of 5 arms differ from lora by more than the noise (the 95 % interval leaves zero out, "
        "and p < 0.05 after Holm's correction for 7). "
        "Ahead: mixlora +3.1 points (+2.1 to +4.1, p < 0.001); lora-2x +2.8 points (+1.8 to +3.8, p < 0.001); "
        "lora-params +1.2 points (+0.2 to +2.2, p = 0.018). "
        "Behind: mixlora-released −6.0 points (−7.0 to −5.0, p < 0.001). "
        "Not told from lora: mixlora-published (−0.6 to +1.4)."
    )
    assert "(the 95 % interval leaves zero out, and p < 0.05 after Holm's correction for 6)" in arms_sentence(
        found, "unseen"
    )  # specialists were not asked
    assert arms_sentence(compared(FEW), "seen").startswith(
        "On the 21 seen tasks, mixlora is ahead of lora by more than the noise: +3.1 points, 95 % interval"
    )


def test_a_difference_that_the_file_does_not_decide_is_not_one() -> None:
    found = compared()
    for name, arm in found.last["differences"].items():
        arm["splits"]["seen"]["decided"] = name == "lora-2x"
    said = arms_sentence(found, "seen")
    assert "1 of 5 arms differs from lora" in said and "Ahead: lora-2x" in said and "Behind" not in said
    assert "Not told from lora: mixlora (+2.1 to +4.1), lora-params" in said
    for arm in found.last["differences"].values():
        arm["splits"]["seen"]["decided"] = False
    assert "none of 5 arms differ from lora" in arms_sentence(found, "seen")


def test_what_was_equal_is_said_and_what_was_not() -> None:
    found = compared()
    assert matched_sentence(found) == (
        "Every arm takes 400 optimizer steps of 16 samples. lora-2x: 2 times the steps, so as many times the samples. "
        "specialists: each specialist takes all these steps, on its task alone. Scale 2 in every adapter. "
        "lora trains 2,369,664 parameters; as many in specialists and lora-2x, 2.5 times as many in mixlora-published "
        "and mixlora-released, 8.1 times as many in lora-params, 8.6 times as many in mixlora. "
        "Learning rate and scaling of each arm come from the same search (4 points an arm, one seed); "
        "specialists took lora's."
    )
    found.facts["mixlora"]["scale"] = 8.0
    found.content["matched"].append("Scale: before the search, 2 in every adapter.")
    found.content["search"] = []
    said = matched_sentence(found)
    assert "Scale 2 in every adapter, but 8 in mixlora." in said and "before the search" not in said
    assert said.endswith("Nothing was searched: every arm has the settings of the file.")


def test_a_tie_is_evidence_of_nothing_on_a_natural_mix_alone() -> None:
    tied = {**FEW, "mixlora": (0.001, 0.0)}
    assert tie_sentence(compared(tied)) == TIE and tie_sentence(compared(FEW)) == ""
    assert tie_sentence(compared({**FEW, "specialists": (0.0, None)}, **asked("pocket/natural"))) == TIE
    assert tie_sentence(compared(tied, **asked("pocket/conflict"))) == ""
    assert is_conflict(compared(FEW, **asked("pocket/conflict-0.5", "pocket/conflict-many/test")))
    assert not is_conflict(compared(FEW, **asked("pocket/conflict-0")))
    assert not is_conflict(compared(FEW, **asked("pocket/conflict-many-0/test")))
    assert not is_conflict(compared(FEW, **asked("pocket/conflict", "pocket/natural")))
