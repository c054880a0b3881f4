import pytest
import torch

from mixtune.data.pictures import join_pictures


def test_pictures_of_one_shape_follow_one_another():
    first, second = torch.randn(2, 3, 4, 4), torch.randn(1, 3, 4, 4)
    assert torch.equal(join_pictures([first, second]), torch.cat([first, second]))
    assert torch.equal(join_pictures([torch.tensor([1]), torch.tensor([2])]), torch.tensor([1, 2]))


def test_what_is_missing_is_filled_up_with_zeros_at_the_end():
    first, second = torch.ones(1, 3, 2, 4), torch.full((2, 1, 4, 2), 2.0)
    joined = join_pictures([first, second])
    assert joined.shape == (3, 3, 4, 4)
    assert torch.equal(joined[:1, :, :2], first) and torch.equal(joined[1:, :1, :, :2], second)
    assert joined.sum() == first.sum() + second.sum()
    assert join_pictures([torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 1, dtype=torch.bool)]).dtype == torch.bool


def test_tensors_of_other_kinds_are_refused():
    with pytest.raises(ValueError, match="pictures with 2 and 3 dimensions do not go into one batch"):
        join_pictures([torch.ones(1, 2), torch.ones(1, 2, 3)])
