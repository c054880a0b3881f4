"""A Tally is as strict as torch.testing.assert_close."""

import pytest
import torch

from mixtune.check.results import Tally


@pytest.mark.parametrize("apart", [0.0, 0.5, 1.0, 1.5, 3.0])
@pytest.mark.parametrize("value", [0.0, 1.0, -40.0])
def test_it_agrees_with_assert_close(value, apart):
    tolerance = 1e-2
    expected = torch.tensor([7.0, value], dtype=torch.float64)
    found = expected + torch.tensor([0.0, apart * tolerance])
    try:
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
        close = True
    except AssertionError:
        close = False
    tally = Tally(tolerance)
    assert tally.close(found, expected, "it") is close and (not tally.faults) is close
    assert tally.difference == pytest.approx(apart * tolerance)


def test_the_largest_difference_of_all_comparisons_is_kept():
    tally = Tally(1.0)
    for found in ([0.1], [0.3], [0.2]):
        tally.close(torch.tensor(found), torch.zeros(1), "it")
    assert tally.difference == pytest.approx(0.3)


def test_exact_means_the_same_bits():
    tally = Tally(1.0)
    assert not tally.close(torch.tensor([1.0 + 1e-7]), torch.tensor([1.0]), "it", exact=True)


def test_infinities_are_equal_and_what_is_no_number_never_is():
    infinite = torch.tensor([float("inf"), -float("inf")])
    assert Tally(0.1).close(infinite, infinite, "it")
    for odd in (float("nan"), float("inf")):
        tally = Tally(0.1)
        assert not tally.close(torch.tensor([odd]), torch.tensor([1.0]), "it") and "not finite" in tally.reason
    assert not Tally(0.1).close(torch.tensor([float("nan")]), torch.tensor([float("nan")]), "it")


def test_other_shapes_are_a_fault_and_the_first_fault_is_told():
    tally = Tally(0.1)
    assert not tally.close(torch.zeros(2), torch.zeros(3), "first")
    tally.fact(False, "second")
    assert tally.reason == "first: shape (2,) for (3,) (and 1 more)"
