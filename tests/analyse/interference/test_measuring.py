"""Directions and measurements: a case worked out on paper, TorchJD's Gramian, the exact form, memory."""

import gc
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from mixtune.analyse.interference.banks import adapted_linears
from mixtune.analyse.interference.gradients import sample_losses
from mixtune.analyse.interference.measuring import Measurer, moved
from mixtune.analyse.interference.planning import Unit
from mixtune.analyse.interference.settings import InterferenceSettings
from mixtune.analyse.interference.statistics import Resampler, Summary, tally
from mixtune.analyse.interference.store import PartStore, joined
from mixtune.check.inputs import own_samples
from mixtune.data import Collator, Encoder
from routed import adapted
from tiny import TASKS, tiny_llava, tiny_processor, tiny_samples
from tolerances import TOL


@dataclass(frozen=True)
class Point:
    """A sample of the paper's case: what the linear reads, and the right one of two answers."""

    x: tuple[float, float]
    label: int


class Paper(nn.Module):
    """Two answers, logits W x + s·B A x with W = -s·B A: all logits are 0, so the loss pulls with -1/2 and +1/2."""

    def __init__(self) -> None:
        super().__init__()
        self.vision_tower, self.up, self.head = nn.Linear(1, 1), nn.Linear(2, 2, bias=False), nn.Identity()
        self.device = torch.device("cpu")

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(self, input_ids, use_cache=False):
        return SimpleNamespace(logits=self.head(self.up(input_ids)))


def paper_model():
    model = get_peft_model(Paper(), LoraConfig(r=1, lora_alpha=2, target_modules=["up"])).requires_grad_(False).eval()
    (linear,) = adapted_linears(model)
    linear.bank_a.copy_(torch.tensor([[3.0, 4.0]]))
    linear.bank_b.copy_(torch.tensor([[1.0], [-1.0]]))
    linear.module.base_layer.weight.copy_(-2 * linear.bank_b @ linear.bank_a)
    return model, linear


def paper_collator(points):
    x_BTD = torch.tensor([[point.x, (0.0, 0.0)] for point in points])
    return {"input_ids": x_BTD, "labels": torch.tensor([[-100, point.label] for point in points])}


def measured(measurer: Measurer, directions: list[list[Unit]], units: list[Unit], folder):
    """The measured part's file, after its blocks."""
    store = PartStore(folder, "test")
    blocks = [
        store.made(f"d{n}", lambda block=block: measurer.direction_block(block)) for n, block in enumerate(directions)
    ]
    return store.made("m", lambda: measurer.measured_part(units, blocks))


def test_two_tasks_worked_out_on_paper(tmp_path) -> None:
    """s = 2, A = (3, 4), B = (1, -1): ∇A = 2 (Bᵀdy) xᵀ and ∇B = dy (2 A x) with dy = ∓(1/2, -1/2).

    First task, answer 0: x = (1, 0) gives ∇A = (-2, 0), ∇B = (-3, 3); x = (3, 4) gives ∇A = (-6, -8).
    Second task, answer 1: x = (0.6, 0.8) gives ∇A = (1.2, 1.6), ∇B = (5, -5).
    u₁ = (-1, 0), u₂ = (0.6, 0.8). Falls of the first task's two samples along u₁: 2, 6; along u₂: -1.2, -10.
    Ratio of means: -11.2 / 8 = -1.4; mean of ratios: (-0.6 - 10/6) / 2 = -1.133. Second along u₁: -1.2 / 2 = -0.6.
    B: -1 always.
    Gramian of B: measured means (-14, 14) and (5, -5) against (-3, 3) and (5, -5): 84, 50, and (-140 - 30) / 2.
    """
    model, linear = paper_model()
    first, far, second = Point((1.0, 0.0), 0), Point((3.0, 4.0), 0), Point((0.6, 0.8), 1)
    measurer = Measurer(model, paper_collator, [linear], 2, InterferenceSettings(blocks=2))
    block = [Unit(0, (first,)), Unit(1, (second,))]
    units = [Unit(0, (first,)), Unit(1, (second,)), Unit(0, (far,)), Unit(1, (second,))]
    part = [measured(measurer, [block, block], units, tmp_path)]
    assert joined(part, "losses").tolist() == pytest.approx([torch.log(torch.tensor(2.0)).item()] * 4)
    resampler = Resampler(joined(part, "tasks"), 2, 2, resamples=100, seed=0)
    found = {}
    for side in "AB":
        falls, products = (joined(part, f"{kind} {side}/up") for kind in ("unit", "mean"))
        found[side] = Summary(tally(falls, products, resampler), ("first", "second"), 0.95)
    score = found["A"].score()
    assert score["score"]["value"] == [[1.0, -1.4], [-0.6, 1.0]]
    assert score["per_sample"]["value"] == [[1.0, -1.133], [-0.6, 1.0]]
    assert score["gain"]["value"] == [4.0, 2.0]
    assert found["B"].score()["score"]["value"] == [[1.0, -1.0], [-1.0, 1.0]]
    assert found["B"].cosines()["gramian"] == [[84.0, -85.0], [-85.0, 50.0]]


def tiny_units(folder, count: int = 12) -> list[Unit]:
    samples = own_samples(str(tiny_samples(folder, n=count)))
    return [Unit(TASKS.index(sample.task), (sample,)) for sample in samples]


def tiny_collator() -> Collator:
    return Collator(Encoder(tiny_processor()), TASKS)


def test_gramian_is_torchjds(tmp_path) -> None:
    """Inner products of the tasks' mean gradients, within one half and between the halves, over all banks together."""
    autogram = pytest.importorskip("torchjd.autogram", reason="torchjd is not installed (extra dev)")
    base, _ = tiny_llava()
    model = get_peft_model(base, LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "down_proj"])).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    linears, units, collator = adapted_linears(model), tiny_units(tmp_path), tiny_collator()
    halves = (units[:6], units[6:])
    measurer = Measurer(model, collator, linears, len(TASKS), InterferenceSettings(blocks=2))
    block = measurer.direction_block(halves[0])
    part = [measured(measurer, [halves[0]], halves[1], tmp_path)]

    engine = autogram.Engine(
        *(each.module.lora_A["default"] for each in linears), *(each.module.lora_B["default"] for each in linears),
        batch_dim=None,
    )  # fmt: skip
    losses = []
    for half in halves:
        losses_B = sample_losses(model, collator([unit.samples[0] for unit in half]))
        tasks_B = torch.tensor([unit.task for unit in half])
        losses += [losses_B[tasks_B == task].mean() for task in range(len(TASKS))]
    expected = engine.compute_gramian(torch.stack(losses))
    keys = [f"mean {side}/{each.name}" for side in "AB" for each in linears]
    tasks_N = joined(part, "tasks")
    between = sum(
        torch.stack([joined(part, key)[tasks_N == task, :, 0].mean(0) for task in range(len(TASKS))]) for key in keys
    )
    torch.testing.assert_close(sum(block[key] @ block[key].t() for key in keys), expected[:3, :3], **TOL[torch.float32])
    torch.testing.assert_close(between, expected[3:, :3], **TOL[torch.float32])
    assert expected[3:, :3].abs().max() > 100 * TOL[torch.float32]["atol"]


@pytest.mark.parametrize(("preset", "changes"), [("lora", {}), ("mixlora", {"conditional": "none"})])
def test_exact_form_tends_to_the_first_order_form(preset: str, changes: dict, tmp_path) -> None:
    """(L(θ) - L(θ - λu)) / λ = u·∇L + O(λ): a step four times shorter leaves a quarter of the difference.

    Losses are float32, so much shorter steps would measure rounding. Without conditional selection, because a step on
    A may make that choose another b, a jump that no first order sees.
    """
    model = adapted(preset, **changes).double().requires_grad_(False)
    linears, units = adapted_linears(model)[-1:], tiny_units(tmp_path, 6)
    differences = []
    for step in (0.2, 0.05, 0.0125):
        settings = InterferenceSettings(blocks=2, lookahead=step)
        measurer = Measurer(model, tiny_collator(), linears, len(TASKS), settings)
        part = [measured(measurer, [units[:3], units[:3]], units[3:], tmp_path / f"{step}")]
        keys = [f"{side}/{each.name}" for side in "AB" for each in linears]
        exact, first = (
            torch.cat([joined(part, f"{kind} {key}").double() for key in keys]) for kind in ("ahead", "unit")
        )
        assert first.abs().max() > 1e-3
        differences.append((exact - first).norm().item())
    assert differences[1] == pytest.approx(differences[0] / 4, rel=0.2)
    assert differences[2] == pytest.approx(differences[1] / 4, rel=0.2)


def test_a_moved_bank_comes_back_bit_for_bit() -> None:
    bank = nn.Parameter(torch.randn(3, 4))
    before = bank.detach().clone()
    with moved(bank, torch.randn(12), 0.3):
        assert not torch.equal(bank, before)
    assert torch.equal(bank, before)


def test_memory_does_not_grow_with_samples(tmp_path) -> None:
    """Live numbers after the last batch are the same for 12 samples as for 36: sums, not gradients."""
    model = adapted("lora").requires_grad_(False)
    linears = adapted_linears(model)
    one_sample = sum(each.bank_a.numel() + each.bank_b.numel() for each in linears)
    live = {}
    for count in (12, 36):
        finished: list[int] = []

        def watch(done: int, finished=finished, count=count) -> None:
            finished.append(done)
            if sum(finished) == count:
                live[count] = sum(type(each) is torch.Tensor and each.numel() for each in gc.get_objects())

        units = tiny_units(tmp_path / str(count), count)
        settings = InterferenceSettings(blocks=2, batch_size=6)
        block = Measurer(model, tiny_collator(), linears, len(TASKS), settings, watch).direction_block(units)
        assert sum(value.numel() for value in block.values()) == 2 * len(TASKS) * one_sample
        del block
    assert live[12] > 2 * len(TASKS) * one_sample, "the sums are counted"
    assert live[36] - live[12] < one_sample


def test_a_unit_of_several_samples_is_their_mean(tmp_path) -> None:
    model = adapted("lora").requires_grad_(False)
    linears, units = adapted_linears(model)[:1], tiny_units(tmp_path, 6)
    mine = [unit for unit in units if unit.task == 0]
    pair = Unit(0, (mine[0].samples[0], mine[1].samples[0]))
    one = Measurer(model, tiny_collator(), linears, 1, InterferenceSettings()).direction_block(mine)
    two = Measurer(model, tiny_collator(), linears, 1, InterferenceSettings(unit=2)).direction_block([pair])
    key = f"A/{linears[0].name}"
    torch.testing.assert_close(two[f"mean {key}"], one[f"mean {key}"], **TOL[torch.float32])
    torch.testing.assert_close(two[f"unit {key}"].norm(), torch.tensor(1.0), **TOL[torch.float32])
    assert one[f"unit {key}"].norm() < 1.0
