"""Decoding takes another way to the same numbers."""

import pytest
import torch

import mixtune.kernels as kernels
from kernel_inputs import EXPERTS, make_routed, make_tensors
from mixtune.kernels import mixture_linear, mixture_linear_reference
from tolerances import TOL


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rows", [1, 4, 0])
@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("kind", ["none", "instance", "token", "crossed"])
@pytest.mark.parametrize("fresh", [True, False])
def test_one_token_a_row_without_gradient(kind, block, rows, dtype, fresh, monkeypatch):
    tensors = [each.detach() for each in make_tensors((rows, 1), EXPERTS * block, dtype)]
    tokens = {"instance": False, "token": True, "crossed": "crossed"}.get(kind)
    routed = None if kind == "none" else make_routed((rows, 1), tokens, dtype)
    expected = mixture_linear_reference(*tensors, routed, scale=0.7, block=block)
    taken, way = [], kernels.one_token
    monkeypatch.setattr(kernels, "one_token", lambda *args, **more: taken.append(args) or way(*args, **more))
    wide = tensors[0].repeat(1, 1, 2)  # half of somebody else's tensor is not written over
    base = tensors[0].clone() if fresh else wide[..., : tensors[0].shape[-1]]
    with torch.no_grad():
        y = mixture_linear(base, *tensors[1:], routed, scale=0.7, block=block)
    size = expected.abs().max().clamp_min(1.0) if expected.numel() else 1.0
    assert len(taken) == 1
    torch.testing.assert_close(y / size, expected / size, **TOL[dtype])
    assert torch.equal(wide, tensors[0].repeat(1, 1, 2))


def test_more_tokens_or_a_gradient_take_the_usual_paths(monkeypatch):
    monkeypatch.setattr(kernels, "one_token", None)
    for shape, learning in (((3, 2), False), ((3, 1), True), ((257, 1), False)):
        tensors = make_tensors(shape, EXPERTS, torch.float32)
        with torch.set_grad_enabled(learning):
            mixture_linear(tensors[0] * 1.0, *tensors[1:], make_routed(shape, True, torch.float32), scale=0.7, block=1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("kind", ["instance", "crossed"])
@pytest.mark.parametrize("rows", [1, 2, 9])
def test_a_core_that_is_kept_holds_the_chosen_rows_where_these_are_fewer(rows, kind, block, dtype):
    base, x, bank_a, bank_b = (each.detach() for each in make_tensors((rows, 1), EXPERTS * block, dtype))
    routed = make_routed((rows, 1), {"instance": False, "crossed": "crossed"}[kind], dtype)
    expected = mixture_linear_reference(base, x, bank_a, bank_b, routed, scale=0.7, block=block)
    wide = kernels.wide_dtype(base, bank_a)
    core = kernels.decoding_core(routed, wide, (bank_a, bank_b), block, keep=True)
    assert (core.chosen is not None) == (routed.indices_a.numel() * block < EXPERTS * block)
    with torch.no_grad():
        y = kernels.one_token(base.clone(), x, bank_a, bank_b, core, scale=0.7)
    size = expected.abs().max().clamp_min(1.0)
    torch.testing.assert_close(y / size, expected / size, **TOL[dtype])
