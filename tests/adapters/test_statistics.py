"""Counting what routers decide: against counts made by hand, without influence, and across flushes and files."""

import json
import math

import pytest
import torch

from mixtune import record_routing
from mixtune.adapters.statistics import RoutingStatistics
from mixtune.routing.losses import entropy
from routed import adapted, batch, packed, sample
from tiny import tiny_llava

TASKS = ("caption", "vqa", "never")
IDS = torch.tensor([1, 0, 1])
LENGTHS = ((14, 3), (9, 5), (17, 2))


def samples():
    return [sample(seed, prompt, answer) for seed, (prompt, answer) in enumerate(LENGTHS)]


def watched(model, found, ids=IDS, names=TASKS):
    """(statistics of one training forward of `found`, its record)."""
    statistics = RoutingStatistics(names)
    statistics.attach(model.train())
    with record_routing(model) as seen:
        model(**found, task_ids=ids)
    statistics.detach(model)
    return statistics, seen.forwards[0]


def by_hand(forward, found, size):
    """Counts [S, P + 1, E] of each layer, slot by slot."""
    counts = {}
    for name, routed in forward.selections.items():
        sides = [routed.indices_a] if routed.probs_b is None else [routed.indices_a, routed.indices_b]
        counts[name] = torch.zeros(len(sides), len(TASKS) + 1, size, dtype=torch.long)
        for side, indices in enumerate(sides):
            for row, chosen in enumerate(indices):
                real = chosen if indices.dim() == 2 else chosen[found["attention_mask"][row].bool()]
                for factor in real.flatten().tolist():
                    counts[name][side, IDS[row], factor] += 1
    return counts


@pytest.mark.parametrize(("preset", "size"), [("mixlora", 6), ("llava-mole", 3)])
@pytest.mark.parametrize("side", ["left", "right"])
def test_counts_are_those_made_by_hand(preset, size, side):
    found = batch(samples(), side)
    statistics, forward = watched(adapted(preset), found)
    expected, counts = by_hand(forward, found, size), statistics.counts()
    assert counts.keys() == expected.keys() and len(counts) == (14 if preset == "mixlora" else 2)
    for name, value in expected.items():
        assert torch.equal(counts[name], value), name

    report = statistics.flush()
    mask = found["attention_mask"].bool()
    for name, routed in forward.selections.items():
        probs = [each for each in (routed.probs, routed.probs_b) if each is not None]
        nats = torch.stack([entropy(each[mask] if each.dim() == 3 else each).mean() for each in probs]).mean().item()
        dead = (expected[name].sum(1) == 0).double().mean().item()
        assert report["layers"][name] == pytest.approx(
            {"entropy": nats, "evenness": nats / math.log(size), "dead_share": dead}, abs=1e-4
        )
    for measure in ("entropy", "evenness", "dead_share"):
        mean = sum(each[measure] for each in report["layers"].values()) / len(report["layers"])
        assert report[measure] == pytest.approx(mean, abs=1e-4)


def test_a_tasks_usage_adds_up_over_the_layers_of_a_kind():
    statistics, _ = watched(adapted("mixlora"), batch(samples()))
    counts, report = statistics.counts(), statistics.flush()
    assert set(report["tasks"]) == {"caption", "vqa"}
    assert set(report["tasks"]["vqa"]) == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    for number, task in enumerate(TASKS[:2]):
        both = sum(value for name, value in counts.items() if name.endswith("q_proj"))[:, number]
        assert report["tasks"][task]["q_proj"] == {"a": both[0].tolist(), "b": both[1].tolist()}
        assert both[0].sum() == both[1].sum() == 2 * 2 * (number == IDS).sum()  # two layers, r = 2 slots
    assert json.loads(json.dumps(report)) == report


def test_experts_have_one_side_and_conditional_routers_two():
    usage = {
        preset: watched(adapted(preset), batch(samples()))[0].flush()["tasks"] for preset in ("mixlora", "llava-mole")
    }
    assert set(usage["mixlora"]["vqa"]["up_proj"]) == {"a", "b"}
    assert set(usage["llava-mole"]["vqa"]["mlp"]) == {"a"}


@pytest.mark.parametrize(("names", "ids", "task"), [
    ((), [1, 0, 1], "all"), (TASKS, None, "other"), (TASKS, [7, -1, 3], "other"), (TASKS, [1], "other"),
])  # fmt: skip
def test_decisions_without_a_task_are_counted_apart(names, ids, task):
    ids = None if ids is None else torch.tensor(ids)
    for preset in ("mixlora", "llava-mole"):
        statistics, _ = watched(adapted(preset), batch(samples()), ids, names)
        assert set(statistics.flush()["tasks"]) == {task}


@pytest.mark.parametrize("preset", ["mixlora", "llava-mole"])
def test_packed_samples_count_under_their_own_task(preset):
    model = adapted(preset)
    apart = watched(model, batch(samples()))[0]
    together = watched(model, {**packed(samples()), "use_cache": False})[0]
    expected, counts = apart.counts(), together.counts()
    for name, value in counts.items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputed_activations_count_once_and_nothing_changes(reentrant):
    plain, found = adapted("mixlora").train(), batch(samples())
    outputs = plain(**found)
    outputs.loss.backward()
    model = adapted("mixlora").train()
    model.get_base_model().enable_input_require_grads()
    model.get_base_model().gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    statistics = RoutingStatistics(TASKS)
    statistics.attach(model)
    statistics.attach(model)
    watched_outputs = model(**found, task_ids=IDS)
    watched_outputs.loss.backward()
    assert torch.equal(watched_outputs.logits, outputs.logits)
    for (name, value), other in zip(plain.named_parameters(), model.parameters(), strict=True):
        assert (value.grad is None) == (other.grad is None), name
        assert value.grad is None or torch.equal(value.grad, other.grad), name
    decisions = {int(counts[0].sum()) for counts in statistics.counts().values()}
    assert decisions == {len(found["input_ids"]) * 2}  # r = 2 slots an instance


def test_only_training_is_counted_and_detaching_ends_it():
    model, found = adapted("mixlora"), batch(samples())
    statistics = RoutingStatistics()
    statistics.attach(model)
    model(**found)
    model.train().generate(**batch(samples(), labels=False), max_new_tokens=2, do_sample=False)
    statistics.detach(model)
    statistics.detach(model)
    model(**found)
    assert statistics.flush() == {} and statistics.state_dict() == []


def test_forwards_add_up_and_a_flush_starts_anew():
    model, first, second = adapted("llava-mole"), batch(samples()[:2]), batch(samples()[2:])
    both = RoutingStatistics(TASKS)
    both.attach(model.train())
    model(**first, task_ids=IDS[:2])
    model(**second, task_ids=IDS[2:])
    both.detach(model)
    added = both.counts()
    apart = [watched(model, found, ids)[0].counts() for found, ids in ((first, IDS[:2]), (second, IDS[2:]))]
    for name, value in added.items():
        assert torch.equal(value, apart[0][name] + apart[1][name])
    both.flush()
    assert both.flush() == {} and both.counts() == {}


def test_open_sums_survive_json_and_add_up_over_processes():
    model = adapted("mixlora")
    statistics, _ = watched(model, batch(samples()))
    again, twice = RoutingStatistics(TASKS), RoutingStatistics(TASKS)
    state = json.loads(json.dumps(statistics.state_dict()))
    again.load_state_dict(state, "cpu")
    twice.load_state_dict(state, "cpu")
    twice.combine(lambda value: value * 2)
    counts = statistics.counts()
    assert {name: int(value.sum()) for name, value in twice.counts().items()} == {
        name: 2 * int(value.sum()) for name, value in counts.items()
    }
    report, doubled = statistics.flush(), twice.flush()
    assert again.flush() == report
    assert doubled["layers"] == report["layers"] and doubled["entropy"] == report["entropy"]


def test_a_plain_lora_decides_nothing_and_a_bare_model_is_refused():
    model = adapted("lora").train()
    statistics = RoutingStatistics()
    statistics.attach(model)
    model(**batch(samples()))
    assert statistics.flush() == {}
    with pytest.raises(ValueError, match="carries no mixture"):
        statistics.attach(tiny_llava()[0])
