import pytest
import torch

from mixtune.routing.cache import Kept
from mixtune.routing.prompts import BatchFacts
from mixtune.routing.scope import RoutingScope, ScopeHolder


def scope(**changes):
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    facts = BatchFacts(shape=(2, 3), prompt_mask=mask, attention_mask=torch.ones(2, 3))
    return RoutingScope(facts=facts, **changes)


def test_the_mean_is_computed_once_for_a_shared_input():
    opened, x_BTD = scope(), torch.randn(2, 3, 4, requires_grad=True)
    first = opened.pool(x_BTD, over="prompt", detach=True)
    assert opened.pool(x_BTD, over="prompt", detach=True) is first and not first.requires_grad
    torch.testing.assert_close(first[0], x_BTD[0, :2].mean(0).detach())
    assert opened.pool(x_BTD, over="prompt", detach=False).requires_grad
    torch.testing.assert_close(opened.pool(x_BTD, over="all", detach=True), x_BTD.mean(1).detach())
    assert opened.pool(x_BTD.detach().clone(), over="prompt", detach=True) is not first


def test_text_is_read_beside_the_prompt_and_a_prompt_of_pictures_as_nothing():
    ids, x_BTD = torch.tensor([[5, 9, 9], [3, 9, 9]]), torch.randn(2, 3, 4)
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    opened = RoutingScope(facts=BatchFacts(shape=(2, 3), prompt_mask=mask, tokens=ids, pictures=(9,)))
    whole = opened.pool(x_BTD, over="prompt", detach=True)
    torch.testing.assert_close(opened.pool(x_BTD, over="text", detach=True), torch.stack([x_BTD[0, 0], torch.zeros(4)]))
    torch.testing.assert_close(opened.pool(x_BTD, over="prompt", detach=True), whole)


def test_other_positions_are_refused():
    with pytest.raises(ValueError, match=r"its input has shape \(2, 5, 4\)"):
        scope().pool(torch.zeros(2, 5, 4), over="prompt", detach=True)


def test_running_again_shares_what_was_made_and_nothing_live():
    opened = scope()
    opened.pool(torch.zeros(2, 3, 4), over="prompt", detach=True)
    opened.live[("a", "b")] = object()
    again = opened.again()
    assert again.made is opened.made and again.auxiliary is opened.auxiliary and again.keep is opened.keep
    assert again.live == {} and again._pooled is None


def test_a_foreign_cache_is_refused_but_not_in_recomputation():
    opened = scope(continues=True)
    with pytest.raises(ValueError, match="filled without the adapter"):
        opened.from_cache(("a", "b"))
    ones = torch.ones(2, 1)
    opened.made[("a", "b")] = Kept(indices_a=ones.long(), indices_b=ones.long(), gates=ones)
    assert opened.from_cache(("a", "b")) is None


def test_random_numbers_depend_on_seed_and_salt():
    def draw(seed, salt):
        return torch.rand(4, generator=scope(seed=seed).random(salt)).tolist()

    assert draw(1, 2) == draw(1, 2)
    assert len({tuple(draw(seed, salt)) for seed in range(3) for salt in range(3)}) == 9
    assert ScopeHolder().scope is None
