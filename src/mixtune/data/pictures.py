"""Tensors of several pictures as one, the way processors put them into a batch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, cat
from torch.nn.functional import pad


def join_pictures(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of one name one after another along their first dimension, in order.

    The other dimensions are filled up at their ends with zeros to the largest of them: pictures cut into different
    numbers of parts, and the masks of their pixels, are so stacked by the processors of LLaVA-NeXT and Idefics 3.
    Raises ValueError for tensors with different numbers of dimensions.
    """
    dims = {tensor.dim() for tensor in tensors}
    if len(dims) > 1:
        raise ValueError(f"pictures with {' and '.join(map(str, sorted(dims)))} dimensions do not go into one batch")
    largest = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    return cat([_filled_up(tensor, largest) for tensor in tensors])


def _filled_up(tensor: Tensor, sizes: list[int]) -> Tensor:
    missing = [size - found for size, found in zip(sizes, tensor.shape[1:], strict=True)]
    # `pad` wants (before, after) of the last dimension first.
    return pad(tensor, [each for room in reversed(missing) for each in (0, room)]) if any(missing) else tensor
