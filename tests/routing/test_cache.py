import copy

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, StaticCache

from mixtune.routing.cache import Kept, adopt, filled, kept_by, routed_class

KEY = ("default", "layers.0.q_proj")
SIZES = LlamaConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=1)


def kept(rows=3):
    indices = torch.arange(rows * 2).view(rows, 2)
    return Kept(indices_a=indices, indices_b=indices + 100, gates=torch.ones(rows, 2))


def cache(kind=DynamicCache, rows=3, length=4):
    made = kind(config=SIZES) if kind is DynamicCache else kind(config=SIZES, max_cache_len=8)
    states = torch.randn(rows, 2, length, 4)
    made.update(states, states, 0)
    return made


@pytest.mark.parametrize("kind", [DynamicCache, StaticCache])
def test_selections_follow_the_batch(kind):
    made = cache(kind)
    adopt(made, {KEY: kept()})
    assert isinstance(made, kind)
    made.reorder_cache(torch.tensor([2, 0, 0]))
    assert kept_by(made)[KEY].indices_a.tolist() == [[4, 5], [0, 1], [0, 1]]
    assert kept_by(made)[KEY].indices_b.tolist() == [[104, 105], [100, 101], [100, 101]]


def test_copies_are_apart():
    made = cache()
    adopt(made, {KEY: kept()})
    copied = copy.deepcopy(made)
    assert type(copied) is type(made) is routed_class(DynamicCache)
    copied.batch_repeat_interleave(2)
    assert kept_by(copied)[KEY].gates.shape == (6, 2) and kept_by(made)[KEY].gates.shape == (3, 2)
    copied.batch_select_indices(torch.tensor([5]))
    assert kept_by(copied)[KEY].indices_a.tolist() == [[4, 5]]
    assert torch.equal(copied.layers[0].keys, made.layers[0].keys[2:])


def test_cropping_keeps_and_emptying_forgets():
    made = cache()
    adopt(made, {KEY: kept()})
    made.crop(-1)
    assert kept_by(made) and filled(made) == 3
    made.crop(-3)
    assert not kept_by(made)
    made = cache()
    adopt(made, {KEY: kept()})
    made.reset()
    assert not kept_by(made)


def test_an_empty_cache_and_none_carry_nothing():
    empty = DynamicCache(config=SIZES)
    adopt(empty, {KEY: kept()})
    assert type(empty) is DynamicCache and kept_by(empty) == {} and kept_by(None) == {} and filled(None) == 0


def test_shared_indices_stay_shared():
    indices = torch.zeros(2, 1, dtype=torch.long)
    one = Kept(indices_a=indices, indices_b=indices, gates=torch.ones(2, 1)).take(torch.tensor([1]))
    assert one.indices_a is one.indices_b
