"""Task sampling: shares, no repeats before a task is used up, orders that only seed and epoch decide, resuming."""

import dataclasses
from collections import Counter

import pytest

from mixtune.config import DataSettings
from mixtune.data.mixture import TaskSampler, fingerprint_samples, task_quotas
from mixtune.data.sample import DataError, ImageRef, Message, Sample

NAMES = ("a", "b", "c")
TASKS = [0] * 100 + [1] * 25 + [2] * 4


def sampler(seed=0, tasks=TASKS, names=NAMES, content="", **settings) -> TaskSampler:
    made = DataSettings(sources=({"path": "d.jsonl"},), **settings)
    return TaskSampler(tasks, made, seed, names, content)


def test_proportional_takes_every_sample_once():
    order = list(sampler())
    assert sorted(order) == list(range(129))
    assert order != sorted(order)


@pytest.mark.parametrize("settings, quotas", [
    ({"sampling": "equal"}, [43, 43, 43]),
    ({"sampling": "temperature"}, [76, 38, 15]),  # 10 : 5 : 2 of 129 are 75.9, 37.9, 15.2
    ({"sampling": "temperature", "temperature": 1}, [100, 25, 4]),
    ({"sampling": "weights", "weights": {"a": 1, "b": 0, "c": 2}}, [43, 0, 86]),
])  # fmt: skip
def test_shares_are_met_and_a_task_repeats_only_when_it_is_used_up(settings, quotas):
    made = sampler(**settings)
    assert list(made.quotas.values()) == quotas
    order = list(made)
    assert len(order) == len(made) == 129
    assert [sum(TASKS[at] == task for at in order) for task in range(3)] == quotas
    drawn = Counter(order)
    for task, quota in enumerate(quotas):
        members = [at for at, number in enumerate(TASKS) if number == task]
        times = [drawn[at] for at in members]
        assert max(times) - min(times) <= 1
        assert sum(times) == quota


def test_the_order_is_a_function_of_seed_and_epoch_alone():
    first, second = sampler(sampling="equal"), sampler(sampling="equal")
    for epoch in (0, 1, 5):
        first.set_epoch(epoch)
        second.set_epoch(epoch)
        assert list(first) == list(second) == list(first)
    orders = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        made = sampler(seed)
        made.set_epoch(epoch)
        orders.append(tuple(made))
    assert len(set(orders)) == 3


def test_the_order_does_not_touch_other_random_numbers():
    import torch

    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    list(sampler())
    assert torch.equal(before, torch.random.get_rng_state())


def test_quotas_add_up_and_go_to_the_largest_remainders():
    assert task_quotas([1, 1, 1], 10) == [4, 3, 3]
    assert task_quotas([0.5, 0.3, 0.2], 7) == [4, 2, 1]
    assert task_quotas([1e-9, 1], 5) == [0, 5]


def test_state_goes_on_only_with_the_same_data_shares_and_seed():
    made = sampler(sampling="equal", content="x")
    made.set_epoch(4)
    again = sampler(sampling="equal", content="x")
    again.load_state_dict(made.state_dict())
    assert list(again) == list(made)
    others = [
        sampler(sampling="equal", content="y"),
        sampler(sampling="proportional", content="x"),
        sampler(sampling="equal", content="x", tasks=TASKS[::-1]),
        sampler(sampling="equal", content="x", names=("a", "b", "d")),
    ]
    for other in others:
        with pytest.raises(DataError, match="resume: the checkpoint's sampler has fingerprint"):
            other.load_state_dict(made.state_dict())
    with pytest.raises(DataError, match="has seed 0, this run 1"):
        sampler(1, sampling="equal", content="x").load_state_dict(made.state_dict())


def test_fingerprints_of_samples_see_every_field():
    sample = Sample("s", (Message("user", "q"), Message("assistant", "a")), (ImageRef("i"),), "t")
    changes = [
        {"id": "r"}, {"task": "u"}, {"images": ()}, {"messages": (Message("user", "q"), Message("assistant", "b"))},
    ]  # fmt: skip
    prints = [fingerprint_samples([dataclasses.replace(sample, **change)]) for change in changes]
    prints += [fingerprint_samples([sample]), fingerprint_samples([sample, sample]), fingerprint_samples([])]
    assert len(set(prints)) == len(prints)
    assert fingerprint_samples([dataclasses.replace(sample, origin="elsewhere")]) == fingerprint_samples([sample])


def test_empty_tasks_and_weights_that_fit_no_task_are_refused():
    with pytest.raises(DataError, match=r"data\.sources: there are no samples to draw from"):
        sampler(tasks=[])
    with pytest.raises(DataError, match=r"data\.sources: no samples of task\(s\) 'd'"):
        sampler(names=(*NAMES, "d"))
    with pytest.raises(DataError) as caught:
        sampler(names=("vqa", "flags", "c"), sampling="weights", weights={"vqa": 1, "flag": 2, "c": 1})
    assert str(caught.value).splitlines() == [
        "data.weights.flag: no such task; did you mean 'flags'?",
        "data.weights: no weight for task 'flags'; 0 leaves it out",
    ]
