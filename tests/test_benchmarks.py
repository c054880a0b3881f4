"""The benchmarks run at tiny sizes and count and compare as they say; the peer made here computes the same function."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from rich.console import Console

from benchmarks import __main__ as command
from benchmarks import curves, features, layer, lengths, packing, ranking, recipe
from benchmarks.data import DataSettings, draw, make_processor
from benchmarks.harness import Case, measure
from benchmarks.memory import watch_memory
from benchmarks.models import OneLinear, pocket_language_model, trained, with_mixture
from benchmarks.options import Settings
from benchmarks.results import Target, moved, verdicts
from mixtune.config import dump_recipe
from mixtune.data import Collator, Encoder
from mixtune.evaluate.run import evaluating
from mixtune.training.logits import supervised_loss
from routed import randomise
from runs import tiny_recipe
from tolerances import TOL

MODEL = ("--layers", "1", "--vocabulary", "32", "--dtypes", "float32", "--no-memory")
TAKEN = ("input_ids", "attention_mask", "position_ids")  # of a batch, by a model without a mixture
TINY = {
    "layer": ("--widths", "16", "--length", "8", "--factors", "16", "--dtypes", "bfloat16", "--no-memory"),
    "step": (*MODEL, "--lengths", "8", "--tokens", "16", "--factors", "16"),
    "decode": (*MODEL, "--batches", "2", "--prompt", "4", "--answer", "2"),
    "ranking": (*MODEL, "--prompts", "5", "--candidates", "3", "--tokens", "10", "--adapters", "mixlora"),
    "paths": ("--widths", "8", "--length", "4", "--factor-rows", "16", "--expert-rows", "64", "--dtypes", "float32"),
    "data": ("--parts", "collator", "--batch", "2", "--side", "28", "--width", "64", "--question", "3", "--memory"),
}


def run(name: str, folder: Path, *more: str) -> str:
    shown = io.StringIO()
    common = ("--rounds", "2", "--seconds", "0", "--threads", "1", "--out", str(folder))
    words = [name, *TINY[name], *common, "--ratios", str(folder / "ratios.json"), *more]
    assert command.main(words, Console(file=shown, width=200)) == 0, shown.getvalue()
    return shown.getvalue()


@pytest.mark.parametrize("name", TINY)
def test_a_benchmark_prints_and_writes_every_arm_and_compares_with_what_is_stored(name: str, tmp_path: Path) -> None:
    shown = run(name, tmp_path, "--store")
    result = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
    stored = json.loads((tmp_path / "ratios.json").read_text(encoding="utf-8"))[name]["ratios"]
    assert result["environment"]["torch"] == version("torch")
    assert result["environment"]["threads"] == "1"
    assert len(stored) == len(result["cases"]) == (2 if name == "paths" else 1)
    for case, ratios in zip(result["cases"], stored.values(), strict=True):
        assert case["dtype"] in ("float32", "bfloat16")
        assert case["arms"].keys() == ratios.keys()
        assert ratios[case["reference"]]["time"] == 1.0
        for arm, measured in case["arms"].items():
            assert arm in shown
            assert all(len(rounds) == 2 and min(rounds) >= 0 for rounds in measured["seconds"].values())
            assert (measured["peak_bytes"] is None) == (name != "data")


def test_what_moved_is_said(tmp_path: Path) -> None:
    run("data", tmp_path, "--store", "--no-memory")
    path = tmp_path / "ratios.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    (case,) = stored["data"]["ratios"]
    stored["data"]["ratios"][case]["collator"]["time"] = 1000.0
    path.write_text(json.dumps(stored), encoding="utf-8")
    shown = run("data", tmp_path, "--no-memory")
    assert f"{case} · collator · time: 1000.00 →" in shown
    assert json.loads(path.read_text(encoding="utf-8")) == stored  # written only when asked to


def test_moved_names_what_differs_by_more_than_a_tenth() -> None:
    before = {"case": {"arm": {"time": 1.0, "peak": 2.0}, "gone": {"time": 1.0}}}
    now = {"case": {"arm": {"time": 1.2, "peak": 2.1}, "new": {"time": 9.0}}, "other": {"arm": {"time": 9.0}}}
    assert moved(now, before) == ["case · arm · time: 1.00 → 1.20 (+20 %)"]


def waits(parts: dict[str, int], clock: list[int]):
    """What builds an arm whose phases take so many ticks of `clock`."""

    def phases() -> Iterator[str]:
        for phase, ticks in parts.items():
            clock[0] += ticks
            yield phase
        clock[0] += 100  # after the last phase nothing counts

    return lambda: phases


def test_phases_are_timed_apart_and_targets_judged_in_the_largest_case(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0]
    monkeypatch.setattr("benchmarks.harness.time.perf_counter", lambda: float(clock[0]))
    settings = Settings(memory=False, rounds=3)
    results = []
    for size, slow in ((1, 9), (2, 6)):
        arms = {"a": waits({"one": slow, "two": 2}, clock), "b": waits({"one": 2, "two": 2}, clock)}
        case = Case(facts={"dtype": "float32", "size": size}, arms=arms, reference="b")
        results.append((case, measure(case, settings)))
    assert results[1][1]["a"].seconds == {"one": [6.0] * 3, "two": [2.0] * 3, "total": [8.0] * 3}
    missed, kept = verdicts([Target(arm="a", peer="b", limits={"float32": limit}) for limit in (1.9, 2.0)], results)
    assert (missed.measured, missed.case) == (2.0, "float32, size 2")
    assert kept.kept and not missed.kept


def test_the_peak_is_what_was_alive_at_the_worst_moment() -> None:
    kilobyte = 256  # float32 values
    with watch_memory(torch.device("cpu")) as peak:
        torch.zeros(100 * kilobyte)  # gone before the count starts
        kept = torch.zeros(10 * kilobyte)
        peak.start()
        for _ in range(3):
            torch.zeros(20 * kilobyte)
    assert peak.bytes == 30 * 1024
    assert kept.numel() == 10 * kilobyte


def test_the_dense_peer_computes_what_the_released_preset_computes() -> None:
    torch.manual_seed(0)
    base = OneLinear(32, torch.float32, "cpu")
    dense = layer.with_dense(base)
    peer = dense.layer.mlp.up_proj
    ours = with_mixture(base, "mixlora-released", r=4, num_factors=16)
    linear = ours.get_submodule("base_model.model.layer.mlp.up_proj")
    with torch.no_grad():
        for each in peer.factors_b:
            each.normal_()
        linear.part("mixture_A", "default").weight.copy_(torch.cat(list(peer.factors_a)))
        linear.part("mixture_B", "default").weight.copy_(torch.cat(list(peer.factors_b)).t())
        for part, router in (("A", peer.router_a), ("B", peer.router_b), ("AB", peer.router_ab)):
            linear.part(f"mixture_router_{part}", "default").weight.copy_(router.weight)
    x_BTD = torch.randn(3, 5, 32)
    torch.testing.assert_close(dense(x_BTD), ours(x_BTD), **TOL[torch.float32])
    assert not torch.equal(dense(x_BTD), base(x_BTD))


def test_the_equal_rank_trains_as_many_values() -> None:
    base = OneLinear(32, torch.float32, "cpu")
    models = layer.models(base, layer.LayerSettings())
    (name,) = (name for name in models if "as many trained" in name)
    ours, theirs = (sum(p.numel() for p in trained(models[each]())) for each in (layer.MIXLORA, name))
    assert ours == theirs


def test_settings_that_make_no_sense_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    shown = io.StringIO()
    assert command.main(["data", "--rounds", "0"], Console(file=shown)) == 2
    assert "rounds: must be at least 1" in shown.getvalue()
    assert command.main(["data", "--dtypes", "float33"], Console(file=shown)) == 2
    assert "'float33' is no dtype of torch" in shown.getvalue()
    with pytest.raises(SystemExit):
        command.main(["--help"])
    listed = capsys.readouterr().out
    assert all(name in listed for name in TINY)


@pytest.mark.parametrize("adapter", [None, "mixlora", "llava-mole"])
def test_ranking_from_a_shared_pass_and_naively_gives_equal_scores(adapter: str | None) -> None:
    base = pocket_language_model(2, 64, torch.float32, "cpu")
    model = base if adapter is None else with_mixture(base, adapter)
    if adapter is not None:
        randomise(model)
    prompts_BT, options = ranking.questions(3, 7, 10, ranking.RankingSettings(vocabulary=64))
    with evaluating(model):
        shared, naive = (way(model, prompts_BT, options, 4) for way in (ranking.shared_scores, ranking.naive_scores))
    torch.testing.assert_close(shared, naive, **TOL[torch.float32])
    assert naive.std() > 0.01


# data: features and packing; curves


def test_every_part_of_data_is_measured(tmp_path: Path) -> None:
    sizes = ("--batches", "2", "--layers", "1", "--attention", "eager", "--dtypes", "float32", "--no-memory")
    run("data", tmp_path, "--parts", "features", "packing", "--towers", "pocket", *sizes)
    cases = json.loads((tmp_path / "data.json").read_text(encoding="utf-8"))["cases"]
    assert [case.get("tower") or case["packing"] for case in cases] == ["pocket", "pocket", "varied"]
    assert all(case["samples_per_second"] > 0 for each in cases for case in each["arms"].values())
    shown = io.StringIO()
    assert command.main(["data", "--parts", "colator"], Console(file=shown)) == 2
    assert "parts: 'colator' is none of collator, features, packing" in shown.getvalue()


def test_the_cache_and_the_tower_give_the_projector_the_same_features(tmp_path: Path) -> None:
    samples = draw(tmp_path, DataSettings(batch=2, width=64))
    collator, tower = Collator(Encoder(make_processor(128, 32)), ["draw"]), features.pocket_tower().eval()
    expected = features.encode(tower, collator(samples)["pixel_values"])
    found = features.filled(samples, collator, tower, tmp_path)(samples)
    torch.testing.assert_close(found["pixel_values"], expected, **TOL[torch.float32])
    assert not torch.equal(expected[0], expected[1])


def test_every_layout_of_packing_is_the_same_loss() -> None:
    model = pocket_language_model(1, packing.VOCABULARY, torch.float32, "cpu")
    collator = Collator(Encoder(make_processor(28)), ["draw"])
    batches = packing.layouts(lengths.draw_pocket(8), collator, 576)
    rows = [len(batch["input_ids"]) for batch in batches.values()]
    assert rows[0] == 8 > rows[2] > rows[1] == 1
    asked = ({name: value for name, value in batch.items() if not name.endswith(("_mask", "_ids")) or name in TAKEN}
             for batch in batches.values())  # fmt: skip
    losses = [supervised_loss(model, batch).nll.mean() for batch in asked]
    for loss in losses[1:]:
        torch.testing.assert_close(loss, losses[0], **TOL[torch.float32])


def test_the_pocket_lengths_are_those_of_its_recipe() -> None:
    kept = json.loads(lengths.FILE.read_text(encoding="utf-8"))["tasks"]
    assert len(kept) == 21
    assert {sum(row[2] for row in rows) for rows in kept.values()} == {120}
    drawn = lengths.draw_pocket(2000)
    assert {length for length in drawn} <= {(row[0], row[1]) for rows in kept.values() for row in rows}
    mean = sum(sum((row[0] + row[1]) * row[2] for row in rows) for rows in kept.values()) / (21 * 120)
    assert sum(map(sum, drawn)) / 2000 == pytest.approx(mean, rel=0.02)


def made_curves(shift: float) -> dict[str, dict[str, list[float]]]:
    """Three seeds apart by far more than the dtypes, whose noise has both signs; `shift` is added to bfloat16."""
    return {
        dtype: {
            str(seed): [1.0 + 0.1 * seed + of_bf16 * (shift + noise) for _ in range(20)]
            for seed, noise in enumerate((0.01, -0.02, 0.01))
        }
        for dtype, of_bf16 in (("float32", 0), ("bfloat16", 1))
    }


def test_curves_are_within_noise_unless_all_seeds_shift() -> None:
    windows = curves.compare(made_curves(0.0))
    assert [each["steps"] for each in windows] == [[1, 10], [11, 20]]
    assert all(each["within_noise"] for each in windows)
    assert windows[0]["float32"]["between_seeds"] == pytest.approx(0.1)
    low, high = windows[0]["difference"]["interval"]
    assert (high - low) / 2 == pytest.approx(4.303 * 0.01, rel=1e-3)  # t of two degrees, √(0.0003) / √3
    assert not any(each["within_noise"] for each in curves.compare(made_curves(0.06)))
    with pytest.raises(ValueError, match="seeds"):
        curves.compare({dtype: {"0": [1.0] * 10} for dtype in curves.DTYPES})


def test_curves_are_read_where_runs_lie_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def trained_run(words: list[str], *, check: bool) -> None:
        changes = dict(word.split("=") for word in words if "=" in word)
        asked.append((changes["train.seed"], changes["model.dtype"]))
        folder = Path(changes["train.output_dir"])
        folder.mkdir(parents=True)
        curve = made_curves(0.0)[changes["model.dtype"]][changes["train.seed"]]
        folder.joinpath(curves.LOG_FILE).write_text("".join(json.dumps({"loss": loss}) + "\n" for loss in curve))

    monkeypatch.setattr(curves.subprocess, "run", trained_run)
    shown, out = io.StringIO(), tmp_path / "curves.json"
    curves.main(["--folder", str(tmp_path), "--out", str(out)], Console(file=shown, width=140))
    assert asked == [(str(seed), dtype) for seed in range(3) for dtype in curves.DTYPES]
    assert shown.getvalue().count("within noise") == 2
    assert json.loads(out.read_text(encoding="utf-8"))["windows"] == curves.compare(made_curves(0.0))


def test_changes_of_a_recipe_are_measured_step_by_step_on_the_same_samples(
    tiny_samples: Callable[[int], Path], tmp_path: Path
) -> None:
    path, out = tmp_path / "tiny.yaml", tmp_path / "recipe.json"
    path.write_text(dump_recipe(tiny_recipe(tiny_samples(8), tmp_path / "run", adapter="mixlora")), encoding="utf-8")
    changes = [f"data.feature_cache={tmp_path / 'features'}", "data.packing=true", "train.seed=1"]
    shown = io.StringIO()
    words = [str(path), *changes, "--rounds", "2", "--cpu", "--out", str(out)]
    recipe.main(words, Console(file=shown, width=200))
    result = json.loads(out.read_text(encoding="utf-8"))
    arms, losses = result["cases"][0]["arms"], result["losses"]
    assert list(arms) == list(losses) == [recipe.AS_IT_IS, *changes]
    assert all(len(each) == 2 for arm in arms.values() for each in arm["seconds"].values())
    assert list(arms[recipe.AS_IT_IS]["seconds"]) == ["batch", "forward", "backward", "optimizer", "total"]
    plain, cached, packed, other = losses.values()
    assert plain == cached != other
    assert packed == pytest.approx(plain, rel=TOL[torch.float32]["rtol"])
    assert len(set(plain)) == 3
    said = shown.getvalue()
    assert f"{changes[0]}: {3600 / arms[changes[0]]['median_seconds']['total'] / 4:.1f} epochs an hour" in said
    assert "losses the same bits" in said and "losses other bits" in said
    assert not (tmp_path / "run").exists()
