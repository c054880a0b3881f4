"""Numbers of benchmarks from rows, worked by hand."""

import pytest

from mixtune.evaluate import metrics


def row(name: str, score: float, task: str, cluster: str = "", **more):
    return {"id": name, "score": score, "task": task, "cluster": cluster, "details": {}, **more}


def mme(part: str, image: str, *scores: float):
    return [row(f"{part}/{image}/{n}", score, f"mme/{part}", image) for n, score in enumerate(scores)]


def test_mme_adds_accuracy_and_accuracy_of_pairs() -> None:
    rows = [
        *mme("count", "a", 1, 1),
        *mme("count", "b", 1, 0),
        *mme("OCR", "a", 1, 1),
        *mme("code_reasoning", "a", 0, 0),
    ]
    found = {name: number.estimate for name, number in metrics.mme_numbers(rows).items()}
    assert found["points/count"] == pytest.approx(75 + 50)
    assert (found["points/OCR"], found["points/code_reasoning"]) == (200, 0)
    assert (found["perception"], found["cognition"], found["total"]) == (325, 0, 325)


def test_mme_tells_images_of_the_same_name_in_two_subtasks_apart() -> None:
    rows = [*mme("count", "a", 1, 0), *mme("OCR", "a", 0, 1)]
    assert metrics.mme_numbers(rows)["total"].estimate == 100


def test_mme_refuses_broken_pairs_and_unknown_subtasks() -> None:
    with pytest.raises(ValueError, match=r"1 image\(s\) of count have not exactly two"):
        metrics.mme_numbers(mme("count", "a", 1))
    with pytest.raises(ValueError, match="'counts' is none of the 14"):
        metrics.mme_numbers(mme("counts", "a", 1, 1))


def pope(said: str, target: str, split: str = "random", image: str = "i"):
    name = f"{split}{image}{said}{target}"
    return row(name, float(said == target), f"pope/{split}", image, read_as=said, target=target)


def test_pope_counts_yes_as_positive_in_each_split() -> None:
    rows = [pope("yes", "yes"), pope("yes", "no"), pope("no", "no"), pope("no", "yes"), pope("yes", "yes", "popular")]
    found = {name: number.estimate for name, number in metrics.pope_numbers(rows).items()}
    assert [found[f"{name}/random"] for name in metrics.POPE] == [0.5, 0.5, 0.5, 0.5, 0.5]
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert (found["precision"], found["recall"], found["f1"]) == (pytest.approx(2 / 3),) * 3
    assert found["yes_ratio"] == pytest.approx(3 / 5)
    assert found["accuracy/popular"] == 1.0


def test_lmms_eval_forgives_nonsense_in_the_recall_and_takes_the_targets_yes_ratio() -> None:
    rows = [pope("other", "yes", image="a"), pope("yes", "yes", image="b"), pope("other", "no", image="c")]
    theirs, ours = metrics.pope_numbers(rows, lmms_eval=True), metrics.pope_numbers(rows)
    assert (theirs["recall"].estimate, ours["recall"].estimate) == (1.0, 0.5)
    assert (theirs["yes_ratio"].estimate, ours["yes_ratio"].estimate) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert theirs["accuracy"].estimate == ours["accuracy"].estimate == pytest.approx(1 / 3)


def test_a_ratio_over_nothing_is_zero() -> None:
    found = metrics.pope_numbers([pope("no", "no")])
    assert [found[name].estimate for name in ("precision", "recall", "f1")] == [0, 0, 0]


def test_means_have_parts_and_details() -> None:
    rows = [row("1", 1.0, "chartqa/human"), row("2", 0.0, "chartqa/augmented"), row("3", 0.5, "chartqa/augmented")]
    rows = [{**each, "details": {"exact": 1.0}} for each in rows]
    found = {name: n.estimate for name, n in metrics.mean_numbers(rows, "relaxed", ("exact",)).items()}
    assert found == {"relaxed": 0.5, "relaxed/augmented": 0.25, "relaxed/human": 1.0, "exact": 1.0}
    assert set(metrics.mean_numbers([row("1", 1.0, "vsr")])) == {"accuracy"}


def test_questions_about_one_image_are_one_cluster() -> None:
    rows = [row("1", 1.0, "x", "a"), row("2", 0.0, "x", "a"), row("3", 1.0, "x")]
    assert metrics.mean_number(rows).strata[0].tolist() == [[1, 2], [1, 1]]


def test_pathvqa_keeps_open_and_closed_apart() -> None:
    open_row = {**row("1", 0.75, "pathvqa/open"), "details": {"f1": 0.5, "precision": 0.25}}
    found = metrics.pathvqa_numbers([open_row, row("2", 1.0, "pathvqa/closed"), row("3", 0.0, "pathvqa/closed")])
    assert {name: number.estimate for name, number in found.items()} == {
        "open_recall": 0.75,
        "open_f1": 0.5,
        "open_precision": 0.25,
        "closed_accuracy": 0.5,
    }


def test_tiny_lvlm_sums_the_abilities_in_per_cent() -> None:
    rows = [row("1", 1.0, "tiny-lvlm/A"), row("2", 0.0, "tiny-lvlm/A"), row("3", 1.0, "tiny-lvlm/B")]
    found = metrics.sum_of_parts(rows)
    assert found["overall"].estimate == 150 and found["accuracy/A"].estimate == 0.5
