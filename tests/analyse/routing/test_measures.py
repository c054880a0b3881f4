"""Measures of selections whose answers are known."""

import numpy as np
import pytest
import torch

from mixtune.analyse.routing import measures
from mixtune.analyse.routing.recording import Selections
from tolerances import TOL


def selections(choices: list, image: list | None = None, sizes: tuple[int, ...] = (4,)) -> Selections:
    """One side, one layer: `choices` [N, E]."""
    array = np.array(choices, dtype=np.float32)[None, :, None]
    return Selections(
        choices=array,
        image=None if image is None else np.array([image], dtype=np.float32),
        entropy=np.array([[0.5]]),
        layers=("model.layers.0.up",),
        sizes=sizes,
    )


def test_measures_of_two_tasks_with_their_own_factors() -> None:
    found = selections([[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]])
    usage = measures.usage_of(found, np.array([0, 0, 1, 1]), ("x", "y"))
    (layer,) = measures.layer_measures(found, usage)
    assert layer == {"entropy": 0.5, "evenness": {"a": 0.5}, "dead_share": {"a": 0.5}, "task_information": {"a": 1.0}}
    assert measures.means([layer]) == {"entropy": 0.5, "evenness": 0.5, "dead_share": 0.5, "task_information": 1.0}
    overlap = measures.overlaps(usage)
    assert all(overlap[name] == [[1.0, 0.0], [0.0, 1.0]] for name in ("shared", "jaccard", "cosine"))


def test_a_smaller_router_is_measured_by_its_own_size() -> None:
    found = selections([[1, 0, 0, 0], [0, 1, 0, 0]], sizes=(2,))
    (layer,) = measures.layer_measures(found, measures.usage_of(found, np.array([0, 0]), ("x",)))
    assert (layer["evenness"], layer["dead_share"]) == ({"a": 1.0}, {"a": 0.0})


def test_overlap_of_tasks_that_share_half() -> None:
    found = selections([[2, 2, 0, 0], [0, 2, 2, 0]])
    overlap = measures.overlaps(measures.usage_of(found, np.array([0, 1]), ("x", "y")))
    assert overlap["shared"][0][1] == 0.5
    assert overlap["jaccard"][0][1] == pytest.approx(1 / 3, abs=1e-4)
    assert overlap["cosine"][0][1] == 0.5


def test_image_and_text_positions_apart() -> None:
    found = measures.token_kinds(selections([[6, 2, 0, 0], [0, 0, 0, 0]], image=[4, 0, 0, 0]))
    assert found == {"image": [[1.0, 0.0, 0.0, 0.0]], "text": [[0.5, 0.5, 0.0, 0.0]], "distance": [0.5]}
    assert measures.token_kinds(selections([[1, 0, 0, 0]])) is None
    assert measures.token_kinds(selections([[1, 0, 0, 0]], image=[1, 0, 0, 0])) is None, "no text"


def test_jaccard_distances_of_sets_and_of_shares() -> None:
    sets = measures.described(selections([[2, 1, 0, 0], [0, 1, 0, 3], [0, 0, 1, 0]]), [0])
    assert measures.jaccard_distances(sets) == pytest.approx(np.array([[0, 2 / 3, 1], [2 / 3, 0, 1], [1, 1, 0]]))
    shares = measures.described(selections([[3, 1, 0, 0], [1, 3, 0, 0]], image=[0, 0, 0, 0]), [0])
    assert shares.tolist() == [[0.75, 0.25, 0, 0], [0.25, 0.75, 0, 0]]
    assert measures.jaccard_distances(shares)[0, 1] == pytest.approx(1 - 0.5 / 1.5)


def test_jaccard_is_scikit_learns() -> None:
    from sklearn.metrics import pairwise_distances

    rows = np.random.default_rng(0).random((20, 12)) < 0.3
    expected = pairwise_distances(rows, metric="jaccard")
    assert measures.jaccard_distances(rows.astype(np.float32)) == pytest.approx(
        expected, abs=TOL[torch.float32]["atol"]
    )


def test_neighbours_tell_groups_and_nothing_else() -> None:
    place = np.array([0.0, 0.1, 0.2, 5.0, 5.1, 5.2])
    distances = np.abs(place[:, None] - place)
    assert measures.neighbours_agree(distances, np.array([0, 0, 0, 1, 1, 1]), 2).all()
    assert not measures.neighbours_agree(distances, np.array([0, 1, 2, 3, 4, 5]), 2).any()
    # One vote each: the nearest wins.
    assert measures.neighbours_agree(distances, np.array([0, 0, 1, 1, 1, 1]), 2).tolist()[1] is True


def test_purity_by_chance_is_chance() -> None:
    random = np.random.default_rng(0)
    tasks = np.repeat(np.arange(4), 50)
    rows = (random.random((200, 40)) < 0.3).astype(np.float32)
    agree = measures.neighbours_agree(measures.jaccard_distances(rows), tasks, 5)
    found = measures.purity(agree, [agree, agree], tasks, 0.95)
    assert (found["samples"], found["chance"]) == (200, 0.25)
    assert found["trained"]["low"] < 0.25 < found["trained"]["high"]
    assert found["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["untrained"]["redraws"] == [found["trained"]["accuracy"]] * 2


def test_a_router_like_the_redraws_is_not_called_different_and_a_better_one_is() -> None:
    """Random routers differ from each other by more than samples tell; only what stands out among them counts."""
    tasks = np.repeat(np.arange(4), 50)

    def right(share: float) -> np.ndarray:
        return np.arange(200) % 50 < 50 * share

    redraws = [right(share) for share in (0.5, 0.6, 0.4, 0.5)]
    alike, better = (measures.purity(right(share), redraws, tasks, 0.95) for share in (0.64, 0.96))
    assert alike["difference"]["low"] < 0 < alike["difference"]["high"]
    assert better["difference"]["low"] > 0
    assert better["untrained"]["accuracy"] == 0.5
    assert measures.purity(right(0.96), redraws[:1], tasks, 0.95)["difference"] == {
        "value": 0.46, "low": None, "high": None,
    }  # fmt: skip
