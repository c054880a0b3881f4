"""Banks that were cast beforehand: the same bits as banks cast in the call, and a copy again wherever they changed."""

import pytest
import torch
from torch import nn

import mixtune.kernels as kernels
from kernel_inputs import EXPERTS, make_routed, make_tensors
from mixtune.kernels import Casts, Lowered, mixture_linear
from mixtune.kernels.factored import Paired
from mixtune.kernels.gathered import Gathered
from mixtune.kernels.grouped import Grouped
from mixtune.kernels.tokens import Crossed, Masked

LOW = torch.bfloat16
PATHS = [(None, None), (Paired, False), (Gathered, False), (Masked, True), (Grouped, True), (Crossed, "crossed")]


@pytest.mark.parametrize(("path", "tokens"), PATHS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_bank_cast_beforehand_gives_the_same_bits(path, tokens, monkeypatch) -> None:
    tensors = make_tensors((3, 5), EXPERTS, LOW)
    routed = None if path is None else make_routed((3, 5), tokens, LOW)
    monkeypatch.setattr(kernels, "choose_path", lambda *args, **kwargs: path)
    base, x, *banks = tensors
    found = []
    for given in (tuple(banks), Casts().lowered("key", tuple(banks), LOW)):
        y = mixture_linear(base * 1.0, x, *given, routed, scale=0.7, block=1)
        found.append([y, *torch.autograd.grad(y.float().square().sum(), (x, *banks))])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other) and one.dtype == other.dtype
    assert found[1][2].dtype == found[1][3].dtype == torch.float32


def step(bank: nn.Parameter) -> None:
    bank.grad = torch.ones_like(bank)
    torch.optim.AdamW([bank]).step()


def load(bank: nn.Parameter) -> None:
    holder = nn.ParameterDict({"bank": bank})
    holder.load_state_dict({"bank": torch.randn_like(bank)})


def replace(bank: nn.Parameter) -> None:
    bank.data = torch.randn_like(bank)


@pytest.mark.parametrize("change", [step, load, replace])
@pytest.mark.parametrize("which", [0, 1])
def test_a_copy_is_made_again_when_its_bank_changed(change, which: int) -> None:
    casts, banks = Casts(), tuple(nn.Parameter(torch.randn(4, 6)) for _ in range(2))
    first, again = (casts.lowered("key", banks, LOW) for _ in range(2))
    assert casts.count == 1 and all(one.low is other.low for one, other in zip(first, again, strict=True))
    change(banks[which])
    now = casts.lowered("key", banks, LOW)
    assert casts.count == 2 and all(isinstance(each, Lowered) for each in now)
    for bank, each in zip(banks, now, strict=True):
        assert each.bank is bank and torch.equal(each.low, bank.detach().to(LOW))


def test_each_key_has_its_own_and_banks_of_that_dtype_stay_as_they_are() -> None:
    casts, banks = Casts(), (torch.randn(4, 6), torch.randn(6, 4))
    assert casts.lowered("one", banks, torch.float32) is banks and casts.count == 0
    casts.lowered("one", banks, LOW)
    casts.lowered("two", banks, LOW)
    assert casts.count == 2
