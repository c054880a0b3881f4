"""Routing statistics on counts whose answers are known."""

import numpy as np
import pytest

from fake_runs import LAYERS, choices_of
from mixtune.analyse.selections import (
    Usage,
    dead_share,
    evenness,
    layer_place,
    read_usage,
    task_information,
    task_overlap,
    usage_numbers,
)
from mixtune.evaluate.usage import pack, save_usage


def usage_of(*tasks: list[int]) -> Usage:
    """One layer, both sides alike, the given counts a task."""
    counts = np.array(tasks)[None, :, None, :].repeat(2, axis=0)
    return Usage(counts_SNLE=counts, tasks=tuple(f"t{i}" for i in range(len(tasks))), layers=("model.layers.0.up",))


def test_tasks_with_their_own_factors_are_told_apart() -> None:
    usage = usage_of([5, 0, 0, 0], [0, 5, 0, 0])
    assert task_information(usage) == pytest.approx(np.ones((2, 1)))
    assert task_overlap(usage).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert dead_share(usage) == 0.5
    assert evenness(usage) == pytest.approx(0.5)  # two of four factors: log 2 / log 4


def test_tasks_that_choose_alike_are_not() -> None:
    usage = usage_of([1, 1, 1, 1], [10, 10, 10, 10])
    assert task_information(usage) == pytest.approx(np.zeros((2, 1)))
    assert task_overlap(usage) == pytest.approx(np.ones((2, 2)))
    assert (dead_share(usage), evenness(usage)) == (0.0, pytest.approx(1.0))


def test_information_is_the_mutual_information_worked_by_hand() -> None:
    # shares (.75 .25) and (.25 .75): I = 1 - H(.25) bits, of one bit to know
    expected = 1 + 0.25 * np.log2(0.25) + 0.75 * np.log2(0.75)
    assert task_information(usage_of([3, 1], [1, 3])) == pytest.approx(np.full((2, 1), expected))
    assert task_overlap(usage_of([3, 1], [1, 3]))[0, 1] == pytest.approx(0.5)


def test_one_task_and_one_factor_are_no_trouble() -> None:
    assert task_information(usage_of([3, 1])).tolist() == [[0.0], [0.0]]
    assert evenness(usage_of([3], [4])) == 0.0
    assert task_information(usage_of([0, 0], [1, 1])).shape == (2, 1)


def test_a_file_comes_back_in_any_order_of_tasks(tmp_path) -> None:
    rows = [
        {"task": task, "selection": pack(choices_of(number, sample))}
        for number, task in enumerate(("b", "a"))
        for sample in range(4)
    ]
    path = tmp_path / "usage.safetensors"
    assert save_usage(rows, LAYERS, path)
    usage = read_usage(path)
    assert usage.tasks == ("a", "b")
    expected = sum(choices_of(0, sample).astype(int) for sample in range(4))
    assert (usage.ordered(["b", "x"]).counts_SNLE[:, 0] == expected).all()
    assert usage_numbers(usage)["most_informative_layer"]["name"] == LAYERS[0]


def test_a_broken_file_is_named(tmp_path) -> None:
    path = tmp_path / "usage.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"usage\.safetensors: cannot be read"):
        read_usage(path)


def test_places_are_read_from_names() -> None:
    assert layer_place("base.model.layers.12.self_attn.q_proj") == (12, "q_proj")
    assert layer_place("base.model.layers.12.mlp") == (12, "mlp")
    assert layer_place("base.model.layers.12") == (12, "layer")
    assert layer_place("projector.linear") == (-1, "linear")
