"""Every path of `mixture_linear` against the obvious version: outputs and all gradients, all dtypes, odd shapes."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import mixtune.kernels as kernels
from kernel_inputs import D_IN, D_OUT, EXPERTS, PATHS, make_routed, make_tensors
from mixtune.kernels import Frozen, choose_path, mixture_linear, mixture_linear_reference
from mixtune.kernels.factored import Paired
from mixtune.kernels.gathered import Gathered
from mixtune.kernels.grouped import Grouped, Stacked
from mixtune.kernels.tokens import Crossed, Masked
from mixtune.routing.routers import RouterOutput
from tolerances import TOL

SHAPES = {"usual": (3, 5), "one token": (1, 1), "decoding": (4, 1), "no tokens": (2, 0), "no instances": (0, 4)}


@pytest.fixture(params=PATHS)
def tokens(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Forces one path; whether it takes token gates ("crossed": gates of pairs of different experts)."""
    path, by_token = PATHS[request.param]
    monkeypatch.setattr(kernels, "choose_path", lambda *args, **kwargs: path)
    yield by_token


def own_expert(indices: Tensor, tokens: bool) -> tuple[Tensor, Tensor]:
    """Indices for both sides; a path for crossed pairs is told of equal ones by another tensor."""
    return indices, indices.clone() if tokens == "crossed" else indices


def results(function, tensors: list[Tensor], routed: RouterOutput | None, block: int) -> list[Tensor]:
    """y and the gradients of base, x, both banks and the gates."""
    base, x, bank_a, bank_b = tensors
    y = function(base * 1.0, x, bank_a, bank_b, routed, scale=0.7, block=block)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y.dtype)
    wanted = [*tensors, *([routed.gates] if routed is not None else [])]
    return [y.detach(), *torch.autograd.grad(y, wanted, dy)]


def assert_same(found: list[Tensor], expected: list[Tensor], dtype: torch.dtype) -> None:
    names = ["y", "d base", "d x", "d bank_a", "d bank_b", "d gates"]
    for name, a, b in zip(names, found, expected, strict=False):
        size = b.abs().max().clamp_min(1.0) if b.numel() else 1.0
        assert a.dtype == b.dtype and a.shape == b.shape, name
        torch.testing.assert_close(a / size, b / size, **TOL[dtype], msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("block", [1, 2])
def test_outputs_and_gradients(tokens: bool, block: int, shape: tuple[int, int], dtype: torch.dtype) -> None:
    tensors, routed = make_tensors(shape, EXPERTS * block, dtype), make_routed(shape, tokens, dtype)
    found = results(mixture_linear, tensors, routed, block)
    assert_same(found, results(mixture_linear_reference, tensors, routed, block), dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_identity_core_is_plain_lora(shape: tuple[int, int], dtype: torch.dtype) -> None:
    tensors = make_tensors(shape, 4, dtype)
    found = results(mixture_linear, tensors, None, 1)
    assert_same(found, results(mixture_linear_reference, tensors, None, 1), dtype)
    base, x, bank_a, bank_b = (each.detach() for each in tensors)
    lora = base + 0.7 * F.linear(F.linear(x, bank_a.to(dtype)), bank_b.to(dtype))
    torch.testing.assert_close(found[0], lora, **TOL[dtype])


@pytest.mark.parametrize("expert", [0, EXPERTS - 1])
def test_all_tokens_to_one_expert(tokens: bool, expert: int) -> None:
    """The others stay empty and get a gradient of exactly zero."""
    tensors = make_tensors((2, 4), EXPERTS * 2, torch.float64)
    indices = torch.full((2, 4, 1) if tokens else (2, 1), expert)
    gates = torch.ones(indices.shape, dtype=torch.float64).requires_grad_()
    routed = RouterOutput(*own_expert(indices, tokens), gates, indices)
    found = results(mixture_linear, tensors, routed, 2)
    assert_same(found, results(mixture_linear_reference, tensors, routed, 2), torch.float64)
    d_bank_a = found[3].view(EXPERTS, 2, D_IN)
    assert d_bank_a[expert].abs().min() > 0
    assert not d_bank_a[torch.arange(EXPERTS) != expert].any()


def test_an_expert_chosen_twice_counts_twice(tokens: bool) -> None:
    """As METHODS' sum over slots says; a cluster's expert that is also the always-on one is such a case."""
    tensors, routed = make_tensors((2, 3), EXPERTS, torch.float64), make_routed((2, 3), tokens, torch.float64)
    indices = routed.indices_a[..., [0, 1, 0]]
    routed = RouterOutput(*own_expert(indices, tokens), routed.gates, routed.probs)
    found = results(mixture_linear, tensors, routed, 1)
    assert_same(found, results(mixture_linear_reference, tensors, routed, 1), torch.float64)


def test_numerical_gradients(tokens: bool) -> None:
    tensors, routed = make_tensors((2, 3), EXPERTS, torch.float64), make_routed((2, 3), tokens, torch.float64)

    def call(base: Tensor, x: Tensor, bank_a: Tensor, bank_b: Tensor, gates: Tensor) -> Tensor:
        made = RouterOutput(routed.indices_a, routed.indices_b, gates, routed.probs)
        return mixture_linear(base * 1.0, x, bank_a, bank_b, made, scale=0.7, block=1)

    assert torch.autograd.gradcheck(call, (*tensors, routed.gates))


def test_strided_x_and_base(tokens: bool) -> None:
    tensors, routed = make_tensors((4, 3), EXPERTS, torch.float64), make_routed((4, 3), tokens, torch.float64)
    base, x, bank_a, bank_b = tensors
    strided = [base.detach().transpose(0, 1).contiguous().transpose(0, 1), x.detach().repeat(1, 1, 2)[..., :D_IN]]
    y = mixture_linear(*strided, bank_a, bank_b, routed, scale=0.7, block=1)
    expected = mixture_linear_reference(*tensors, routed, scale=0.7, block=1)
    torch.testing.assert_close(y, expected, **TOL[torch.float64])
    dy = torch.ones(D_OUT, dtype=torch.float64).expand(4, 3, D_OUT)  # a gradient with zero strides, as sum() makes
    found, wanted = (torch.autograd.grad(each, (bank_a, bank_b, routed.gates), dy) for each in (y, expected))
    torch.testing.assert_close(found, wanted, **TOL[torch.float64])


@pytest.mark.parametrize("frozen", ["base", "x", "bank_a", "bank_b", "gates"])
def test_frozen_inputs_get_no_gradient(tokens: bool, frozen: str) -> None:
    tensors, routed = make_tensors((2, 3), EXPERTS, torch.float64), make_routed((2, 3), tokens, torch.float64)
    leaves = dict(zip(["base", "x", "bank_a", "bank_b", "gates"], [*tensors, routed.gates], strict=True))
    expected = dict(zip(leaves, results(mixture_linear_reference, tensors, routed, 1)[1:], strict=True))
    leaves[frozen].requires_grad_(False)
    y = mixture_linear(tensors[0] * 1.0, *tensors[1:], routed, scale=0.7, block=1)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y.dtype))
    assert leaves.pop(frozen).grad is None
    for name, leaf in leaves.items():
        torch.testing.assert_close(leaf.grad, expected[name], **TOL[torch.float64])


def test_autocast(tokens: bool) -> None:
    """Under autocast the linear's result is bfloat16 while x and the banks stay float32."""
    tensors, routed = make_tensors((3, 5), EXPERTS, torch.float32), make_routed((3, 5), tokens, torch.float32)
    weight = torch.randn(D_OUT, D_IN, generator=torch.Generator().manual_seed(3))
    x, bank_a, bank_b = tensors[1:]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        base = F.linear(x, weight)
        y = mixture_linear(base, x, bank_a, bank_b, routed, scale=0.7, block=1)
        grads = torch.autograd.grad(y.float().square().sum(), (x, bank_a, bank_b, routed.gates))
    assert y.dtype == torch.bfloat16 and all(grad.dtype == torch.float32 for grad in grads)
    expected = mixture_linear_reference(F.linear(x, weight), x, bank_a, bank_b, routed, scale=0.7, block=1)
    wanted = torch.autograd.grad(expected.square().sum(), (x, bank_a, bank_b, routed.gates))
    assert_same([y.float(), *grads], [expected, *wanted], torch.bfloat16)


def test_bfloat16_gates_keep_their_dtype(tokens: bool) -> None:
    tensors, routed = make_tensors((3, 5), EXPERTS, torch.bfloat16), make_routed((3, 5), tokens, torch.float32)
    gates = routed.gates.detach().bfloat16().requires_grad_()
    routed = RouterOutput(routed.indices_a, routed.indices_b, gates, routed.probs)
    found = results(mixture_linear, tensors, routed, 1)
    assert_same(found, results(mixture_linear_reference, tensors, routed, 1), torch.bfloat16)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_and_using_it_twice(tokens: bool, reentrant: bool) -> None:
    (base, x, bank_a, bank_b) = make_tensors((2, 3), EXPERTS, torch.float64)
    routed, weight = make_routed((2, 3), tokens, torch.float64), base.new_ones(D_OUT, D_IN)

    def block_of_layers(x: Tensor) -> Tensor:
        y = mixture_linear(F.linear(x, weight), x, bank_a, bank_b, routed, scale=0.7, block=1)
        return y + mixture_linear(F.linear(x, weight, base[0, 0]), x, bank_a, bank_b, routed, scale=0.3, block=1)

    wanted = (x, bank_a, bank_b, routed.gates, base)
    kept = torch.autograd.grad(block_of_layers(x).square().sum(), wanted)
    for leaf in wanted:
        leaf.grad = None
    checkpoint(block_of_layers, x, use_reentrant=reentrant).square().sum().backward()
    for leaf, expected in zip(wanted, kept, strict=True):
        assert torch.equal(leaf.grad, expected)


def test_in_place_only_on_a_fresh_result(tokens: bool) -> None:
    """A leaf that trains and a view of somebody else's tensor are left as they were; a fresh result is reused."""
    tensors, routed = make_tensors((2, 3), EXPERTS, torch.float64), make_routed((2, 3), tokens, torch.float64)
    leaf, other = tensors[0], torch.zeros(3, 2, 3, D_OUT, dtype=torch.float64)
    before = leaf.detach().clone()
    mixture_linear(leaf, *tensors[1:], routed, scale=0.7, block=1)
    mixture_linear(other[1], *tensors[1:], routed, scale=0.7, block=1)
    assert torch.equal(leaf, before) and not other.any()
    with torch.no_grad():
        fresh = leaf * 1.0
        y = mixture_linear(fresh, *tensors[1:], routed, scale=0.7, block=1)
    assert y.data_ptr() == fresh.data_ptr()


def test_choice_of_path() -> None:
    assert choose_path(16, 4, tokens=False) is Paired
    assert choose_path(4096, 4, tokens=False) is Gathered
    assert choose_path(3 * 32, 32, tokens=True) is Masked
    assert choose_path(64 * 32, 32, tokens=True, stackable=True) is Stacked
    assert choose_path(64 * 32, 32, tokens=True) is Grouped
    assert choose_path(64 * 32, 32, tokens=True, crossed=True) is Crossed
    assert choose_path(64 * 32, 64 * 32, tokens=True) is Masked  # dense gates leave nothing to sort


@pytest.mark.parametrize("wrong", ["x", "bank_a", "bank_b", "block"])
def test_shapes_that_do_not_fit_are_named(wrong: str) -> None:
    base, x, bank_a, bank_b = (each.detach() for each in make_tensors((2, 3), EXPERTS, torch.float32))
    x, bank_a = (x[..., 1:] if wrong == "x" else x), (bank_a[1:] if wrong == "bank_a" else bank_a)
    bank_b = bank_b[1:] if wrong == "bank_b" else bank_b
    with pytest.raises(ValueError, match=r"bank_a \[\d, 12\]"):
        mixture_linear(base, x, bank_a, bank_b, None, scale=1.0, block=5 if wrong == "block" else 1)


@pytest.mark.parametrize("block", [1, 2])
def test_instances_packed_into_rows_equal_instances_apart(block: int) -> None:
    """Three instances of lengths 3, 2 and 1 side by side in one row: another path, the same numbers."""
    base, x, bank_a, bank_b = (each.detach() for each in make_tensors((1, 6), EXPERTS * block, torch.float64))
    routed = make_routed((3, 1), False, torch.float64)
    owners = torch.tensor([[0, 0, 0, 1, 1, 2]])
    packed = mixture_linear(base.clone(), x, bank_a, bank_b, routed.spread(owners), scale=0.7, block=block)
    for number in range(3):
        own, at = [number], owners[0] == number
        one = RouterOutput(routed.indices_a[own], routed.indices_b[own], routed.gates[own], routed.probs[own])
        alone = mixture_linear(base[:, at].clone(), x[:, at], bank_a, bank_b, one, scale=0.7, block=block)
        torch.testing.assert_close(packed[:, at], alone, **TOL[torch.float64])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("path", "tokens"), [
    (None, None), (None, False), (None, True), (None, "crossed"), (Gathered, False), (Grouped, True),
])  # fmt: skip
def test_a_frozen_linear_may_be_computed_in_the_same_call(path, tokens, dtype, bias, monkeypatch) -> None:
    if path is not None:
        monkeypatch.setattr(kernels, "choose_path", lambda *args, **kwargs: path)
    _, x, bank_a, bank_b = make_tensors((3, 5), EXPERTS, dtype)
    routed = None if tokens is None else make_routed((3, 5), tokens, dtype)
    weight, start = torch.randn(D_OUT, D_IN).to(dtype), torch.randn(D_OUT).to(dtype) if bias else None
    leaves = [x, bank_a, bank_b, *([] if routed is None else [routed.gates])]
    y = mixture_linear(Frozen(weight, start), x, bank_a, bank_b, routed, scale=0.7, block=1)
    expected = mixture_linear_reference(F.linear(x, weight, start), x, bank_a, bank_b, routed, scale=0.7, block=1)
    found, wanted = ([each, *torch.autograd.grad(each.float().square().sum(), leaves)] for each in (y, expected))
    assert_same(found, wanted, dtype)
    assert not y._is_view() or path is not None


def test_a_contribution_below_the_base_s_last_place_is_not_lost() -> None:
    """Each is a tenth of the step between neighbouring bfloat16 numbers; what arrives is right on average."""
    generator = torch.Generator().manual_seed(0)
    x, weight = (
        torch.randn(1, 4096, 64, generator=generator).bfloat16(),
        torch.randn(32, 64, generator=generator).bfloat16(),
    )
    bank_a, bank_b = torch.zeros(1, 64), torch.full((32, 1), 2.0**-12)
    x[..., 0], bank_a[0, 0] = 8.0, 1.0  # adds 2^-9 to numbers of about 8
    expected, arrived = 2.0**-9, []
    for base in (F.linear(x, weight), Frozen(weight, None)):
        y = mixture_linear(base, x, bank_a, bank_b, None, scale=1.0, block=1)
        arrived.append(float((y.double() - x.double() @ weight.double().t()).mean()) / expected)
    assert abs(arrived[1] - 1) < 0.25 < abs(arrived[0] - 1)
