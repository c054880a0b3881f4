"""The same numbers on a GPU as on a CPU: kernels, whole adapted models, generation, steps in half precision.

Skipped where there is no GPU. On a machine with one, run it alone: `pytest tests/test_cuda.py`.
"""

import copy

import pytest
import torch
from torch import Tensor

import mixtune.kernels as kernels
from kernel_inputs import EXPERTS, PATHS, make_routed, make_tensors
from mixtune import get_peft_model, record_routing
from mixtune.kernels import mixture_linear, mixture_linear_reference
from mixtune.kernels.grouped import Grouped, Stacked, can_stack
from mixtune.routing.routers import RouterOutput
from routed import IMAGE, PRESETS, adapted, batch, config, prompts, randomise, sample
from tiny import tiny_llava
from tolerances import TOL

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(autouse=True)
def single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions on CUDA round float32 to TF32 unless told not to."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


SAMPLES = [sample(seed, prompt, answer) for seed, (prompt, answer) in enumerate([(9, 4), (14, 3), (6, 1)])]


def moved(values: dict[str, Tensor], device: str = "cuda") -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in values.items()}


def on_cuda(routed: RouterOutput) -> RouterOutput:
    a = routed.indices_a.cuda()
    b = a if routed.indices_b is routed.indices_a else routed.indices_b.cuda()
    return RouterOutput(a, b, routed.gates.detach().cuda().requires_grad_(), routed.probs.cuda())


def results(function, tensors: list[Tensor], routed: RouterOutput, block: int) -> list[Tensor]:
    """y and the gradients of base, x, both banks and the gates."""
    y = function(tensors[0] * 1.0, *tensors[1:], routed, scale=0.7, block=block)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y)
    return [y.detach(), *torch.autograd.grad(y, [*tensors, routed.gates], dy)]


def assert_same(found: list[Tensor], expected: list[Tensor], dtype: torch.dtype) -> None:
    for a, b in zip(found, expected, strict=True):
        size = b.abs().max().clamp_min(1.0) if b.numel() else 1.0
        assert a.is_cuda and not b.is_cuda and a.dtype == b.dtype
        torch.testing.assert_close(a.cpu() / size, b / size, **TOL[dtype])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(3, 5), (1, 1), (4, 1), (2, 0)], ids=str)
@pytest.mark.parametrize("path", PATHS)
def test_kernels(path: str, shape: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    function, tokens = PATHS[path]
    monkeypatch.setattr(kernels, "choose_path", lambda *args, **kwargs: function)
    tensors, routed = make_tensors(shape, EXPERTS * 2, dtype), make_routed(shape, tokens, dtype)
    there = [each.detach().cuda().requires_grad_() for each in tensors]
    expected = results(mixture_linear_reference, tensors, routed, 2)
    assert_same(results(mixture_linear, there, on_cuda(routed), 2), expected, dtype)


@pytest.mark.parametrize("chosen, only", [(1, None), (2, None), (1, 0), (1, 3)])
def test_torchs_grouped_product(chosen: int, only: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path that only CUDA takes by itself, with experts that get no token."""
    experts, block, width = 4, 32, 256
    generator = torch.Generator().manual_seed(0)
    sizes = [(3, 40, width), (3, 40, width), (experts * block, width), (width, experts * block)]
    dtypes = [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    drawn = [torch.randn(size, generator=generator) / size[-1] ** 0.5 for size in sizes]
    tensors = [each.to(kind).requires_grad_() for each, kind in zip(drawn, dtypes, strict=True)]
    draws = torch.rand(3, 40, experts, generator=generator)
    draws[..., 2] = -1.0
    indices = draws.argsort(-1, descending=True)[..., :chosen] if only is None else torch.full((3, 40, 1), only)
    routed = RouterOutput(indices, indices, torch.rand(indices.shape, generator=generator).requires_grad_(), draws)
    there = [each.detach().cuda().requires_grad_() for each in tensors]
    assert can_stack(there[0], there[1], block)
    monkeypatch.setattr(kernels, "choose_path", lambda *args, **kwargs: Stacked)
    found = results(mixture_linear, there, on_cuda(routed), block)
    assert_same(found, results(mixture_linear_reference, tensors, routed, block), torch.bfloat16)
    monkeypatch.setattr(kernels, "choose_path", lambda *args, **kwargs: Grouped)
    looped = results(mixture_linear, there, on_cuda(routed), block)
    for a, b in zip(found, looped, strict=True):
        torch.testing.assert_close(a / b.abs().max(), b / b.abs().max(), **TOL[torch.bfloat16])


def loss_and_gradients(model: torch.nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    loss = model(**inputs).loss
    loss.backward()
    grads = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    return loss.detach(), grads


def off_by(grads: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    """The largest ‖g − exact‖ / ‖exact‖ of any parameter's gradient."""
    return max(float((grads[name].cpu().double() - each).norm() / each.norm()) for name, each in exact.items())


@pytest.mark.parametrize("preset", PRESETS)
def test_a_model_gives_the_same_loss_gradients_and_selections(preset: str) -> None:
    """Gradients of whole models magnify rounding (a CPU's own are off by up to 3e-4 of their size), and more or less
    so by preset; so a GPU's may be off by a few times what the CPU's are, against the same model in float64.
    """
    model = adapted(preset)
    other, exact = copy.deepcopy(model).cuda(), copy.deepcopy(model).double()
    with record_routing(model) as seen:
        loss, grads = loss_and_gradients(model, batch(SAMPLES))
    with record_routing(other) as again:
        found, there = loss_and_gradients(other, moved(batch(SAMPLES)))
    doubled = {name: each.double() if each.is_floating_point() else each for name, each in batch(SAMPLES).items()}
    _, right = loss_and_gradients(exact, doubled)
    torch.testing.assert_close(found.cpu(), loss, **TOL[torch.float32])
    assert grads and there.keys() == grads.keys() == right.keys()
    assert off_by(there, right) < 4 * off_by(grads, right)
    for name, routed in seen.selections.items():
        assert torch.equal(again.selections[name].indices_a.cpu(), routed.indices_a)
        assert torch.equal(again.selections[name].indices_b.cpu(), routed.indices_b)


@pytest.mark.parametrize("preset", PRESETS)
def test_generation_gives_the_same_tokens(preset: str) -> None:
    model = adapted(preset)
    wanted = {"do_sample": False, "max_new_tokens": 5, "min_new_tokens": 5, "suppress_tokens": [IMAGE]}
    inputs = prompts(SAMPLES)
    with torch.no_grad():
        here = model.generate(**inputs, **wanted)
        there = copy.deepcopy(model).cuda().generate(**moved(inputs), **wanted)
    assert torch.equal(there.cpu(), here)


@pytest.mark.parametrize("preset", ["lora", "mixlora", "llava-mole"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_step_in_half_precision_follows_the_step_in_single(preset: str, dtype: torch.dtype) -> None:
    """The base in half precision, adapters in float32, the loss scaled where the dtype needs it."""
    model, _ = tiny_llava(0)
    model = get_peft_model(model, config(preset))
    randomise(model)
    half = copy.deepcopy(model)
    for name, parameter in half.named_parameters():
        if ".mixture_" not in name:
            parameter.data = parameter.data.to(dtype)
    losses = {}
    for name, each in {"single": model, "half": half}.items():
        each = each.cuda().train()
        parameters = [parameter for parameter in each.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=1e-2, fused=True)
        scaler = torch.amp.GradScaler("cuda", enabled=dtype == torch.float16 and name == "half")
        inputs = moved(batch(SAMPLES))
        losses[name] = []
        for _ in range(6):
            with torch.autocast("cuda", dtype, enabled=name == "half"):
                loss = each(**inputs).loss
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            losses[name].append(loss.detach().float())
    single, half_losses = (torch.stack(losses[name]).cpu() for name in ("single", "half"))
    assert single.max() - single.min() > 0.04
    torch.testing.assert_close(half_losses, single, **TOL[torch.bfloat16])
