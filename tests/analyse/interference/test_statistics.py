"""Scores, intervals and verdicts from inner products whose answers are known."""

import pytest
import torch

from mixtune.analyse.interference.statistics import Resampler, Summary, percentiles, tally, weights
from tolerances import TOL

TASKS = ("first", "second")


def records(noise: float = 0.0, units: int = 40, blocks: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Falls of two tasks: 2 along the own direction; -1 for the first along the second's, +0.5 the other way."""
    truth = torch.tensor([[2.0, -1.0], [0.5, 2.0]])
    tasks_N = torch.arange(2).repeat(units)
    random = torch.Generator().manual_seed(seed)
    falls_NPK = truth[tasks_N][:, :, None] + noise * torch.randn(len(tasks_N), 2, blocks, generator=random)
    return tasks_N, falls_NPK


def summary(tasks_N, falls_NPK, resamples: int = 400) -> Summary:
    resampler = Resampler(tasks_N, 2, falls_NPK.shape[-1], resamples=resamples, seed=1)
    return Summary(tally(falls_NPK, falls_NPK, resampler), TASKS, 0.95)


def test_without_noise_every_number_is_exact() -> None:
    found = summary(*records()).score()
    expected = [[1.0, -0.5], [0.25, 1.0]]
    for name in ("score", "per_sample"):
        for end in ("value", "low", "high"):
            torch.testing.assert_close(torch.tensor(found[name][end]), torch.tensor(expected), **TOL[torch.float32])
    assert found["gain"]["value"] == pytest.approx([2.0, 2.0])
    assert found["undecided"] == []
    assert summary(*records()).check()["value"] == pytest.approx([1.0, 1.0])


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held, wide = 0, 0
    for seed in range(60):
        score = summary(*records(noise=1.0, seed=seed), resamples=200).score()["score"]
        low, high = score["low"][0][1], score["high"][0][1]
        held += low <= -0.5 <= high
        wide += high - low > 1.0
    assert 50 <= held <= 60
    assert wide == 0


def test_blocks_count_in_the_interval() -> None:
    """Directions that differ from block to block widen it, though every unit says the same of each block."""
    tasks_N, falls_NPK = records(units=200)
    calm = summary(tasks_N, falls_NPK).score()["score"]
    falls_NPK[:, 1] += torch.tensor([-0.5, 0.5, -0.5, 0.5])
    moved = summary(tasks_N, falls_NPK).score()["score"]
    assert calm["high"][0][1] - calm["low"][0][1] < 1e-3 < 0.2 < moved["high"][0][1] - moved["low"][0][1]


def test_a_gain_that_may_be_zero_leaves_its_row_undecided() -> None:
    tasks_N, falls_NPK = records(noise=0.5)
    falls_NPK[tasks_N == 1, 1] -= 2.0
    found = summary(tasks_N, falls_NPK).score()
    assert found["undecided"] == ["second"]


def test_a_sample_without_gradient_is_undefined_not_a_number() -> None:
    tasks_N, falls_NPK = records()
    found = summary(tasks_N, torch.zeros_like(falls_NPK))
    assert found.score()["score"]["value"] == [[None, None], [None, None]]
    assert found.score()["undecided"] == list(TASKS)
    assert found.cosines()["cosine"]["value"] == [[None, None], [None, None]]


def test_the_self_check_can_fail() -> None:
    """Directions of one half that the other half contradicts: the plain diagonal is 1 all the same."""
    tasks_N, falls_NPK = records()
    falls_NPK[tasks_N == 0, 0] = torch.tensor([3.0, 1.0, 3.0, 1.0])
    found = summary(tasks_N, falls_NPK)
    assert found.score()["score"]["value"][0][0] == 1.0
    assert found.check()["value"] == pytest.approx([3.0, 1.0])


def test_the_self_check_has_an_interval_that_holds_one() -> None:
    found = [summary(*records(noise=0.5, units=60, blocks=5, seed=seed)).check() for seed in range(20)]
    held = sum(low <= 1 <= high for each in found for low, high in zip(each["low"], each["high"], strict=True))
    assert 34 <= held <= 40
    assert all(high - low < 0.6 for each in found for low, high in zip(each["low"], each["high"], strict=True))


def test_cosines_are_of_the_symmetrised_products() -> None:
    found = summary(*records()).cosines()
    assert found["gramian"] == [[2.0, -0.25], [-0.25, 2.0]]
    assert found["cosine"]["value"] == [[1.0, -0.125], [-0.125, 1.0]]


def test_resampled_weights_are_means_with_the_right_variance() -> None:
    drawn = weights(5, 20_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.sum(1), torch.ones(20_001), **TOL[torch.float32])
    values = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    assert (drawn[1:] @ values).var().item() == pytest.approx(values.var().item() / 5, rel=0.05)


def test_percentiles_leave_out_what_is_not_finite() -> None:
    column = torch.arange(101.0)
    few, many = column.clone(), column.clone()
    few[:5], many[:50] = torch.nan, torch.inf
    low, high = percentiles(torch.stack([column, few, many], 1), (0.1, 0.9))
    assert low[:2].tolist() == pytest.approx([10.0, 14.5])
    assert high[:2].tolist() == pytest.approx([90.0, 90.5])
    assert low[2].isnan() and high[2].isnan()
