"""Benchmarks as samples, asked and scored through the whole evaluation on a tiny model."""

import json

import pytest

import official_files
from mixtune.evaluate import EvaluateSettings, asking, evaluate
from mixtune.evaluate.benchmarks.registry import BENCHMARKS
from mixtune.evaluate.benchmarks.samples import score_answer
from mixtune.evaluate.metrics import RANKED
from mixtune.evaluate.run import fingerprint
from tiny import tiny_llava, tiny_processor


def ask(name, folder, **options):
    return asking.ask(f"{name}={official_files.BUILDERS[name](folder)}", **options)


def question(sample):
    return sample.messages[0].text


def test_questions_are_asked_as_the_protocol_says(tmp_path) -> None:
    mme, theirs = (ask("mme", tmp_path / p, protocol=p).samples[0] for p in ("official", "lmms-eval"))
    assert question(mme) == "<image>\nAre there two? Please answer yes or no."
    assert question(theirs) == "<image>\nAre there two?\nAnswer the question using a single word or phrase."
    assert (mme.task, mme.options, mme.messages[1].text) == ("mme/count", ("Yes", "No"), "Yes")
    ours, theirs = (ask("textvqa", tmp_path / p, protocol=p).samples[0] for p in ("vlmevalkit", "lmms-eval"))
    assert "what is the BRAND?\n" in question(ours) and "What is the brand?\n" in question(theirs)
    cat = ask("cifar10", tmp_path / "c").samples[0]
    assert "Choose one of: airplane, automobile," in question(cat) and "{" not in question(cat)


def test_ids_that_a_file_repeats_are_told_apart(tmp_path) -> None:
    rows = [
        {"index": n, "question_id": "count/1.png", "image": official_files.base64_picture(), "question": f"{n}?",
         "answer": "No", "category": "count"}
        for n in (1, 2)
    ]  # fmt: skip
    found = asking.ask(f"mme={official_files.write_tsv(tmp_path / 'MME.tsv', rows)}")
    assert [sample.id for sample in found.samples] == ["mme/count/count/1.png", "mme/count/count/1.png#2"]
    assert {sample.cluster for sample in found.samples} == {"count/1.png"}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_runs_from_files_to_numbers(name, tmp_path) -> None:
    asked = ask(name, tmp_path / "files")
    settings = EvaluateSettings(max_length=512, rank=name != "cifar100")  # its prompt lists a hundred names
    found = evaluate(tiny_llava()[0], tiny_processor(), asked.samples, settings, tmp_path / "out")
    table = json.loads((tmp_path / "out" / "results.json").read_text())["benchmarks"][name]
    assert (table["protocol"], table["n"]) == ("official", len(asked.samples))
    assert table["headlines"][0] in table["numbers"] and table["source"]
    assert (RANKED in table["numbers"]) == (bool(BENCHMARKS[name].options) and settings.rank)
    for cell in table["numbers"].values():
        assert cell["low"] <= cell["value"] <= cell["high"] and cell["interval"]
    for row in found.rows:
        assert row["benchmark"] == name and row["answers"] and 0 <= row["score"] <= 1
        graded = name in ("textvqa", "docvqa") or row["task"] == "pathvqa/open"
        assert row["greedy_correct"] == (None if graded else bool(row["score"]))
    assert {task["split"] for task in found.results["tasks"].values()} == {name}


def test_mmavg_is_the_plain_mean_of_seven(tmp_path) -> None:
    seven = ("textvqa", "vsr", "snli-ve", "cifar10", "cifar100", "mnist", "pope")
    samples = [sample for name in seven for sample in ask(name, tmp_path / name).samples]
    settings = EvaluateSettings(rank=False, max_length=512)
    found = evaluate(tiny_llava()[0], tiny_processor(), samples, settings, tmp_path / "out").results
    columns = [found["benchmarks"][name]["numbers"]["accuracy"]["value"] for name in seven]
    assert found["mmavg"]["value"] == pytest.approx(sum(columns) / 7)
    assert found["mmavg"]["low"] <= found["mmavg"]["value"] <= found["mmavg"]["high"]
    fewer = evaluate(tiny_llava()[0], tiny_processor(), samples[:1], settings, tmp_path / "fewer").results
    assert "mmavg" not in fewer


def test_a_benchmark_has_its_own_limit_of_tokens_whatever_shares_its_batch(tiny_samples, tmp_path) -> None:
    model = tiny_llava()[0]
    model.generation_config.eos_token_id = None
    long, short = ask("pathvqa", tmp_path / "p").samples, ask("pope", tmp_path / "q").samples
    settings = {size: EvaluateSettings(batch_size=size, rank=False) for size in (1, 6)}
    runs = [
        evaluate(model, tiny_processor(), [*long, *short], each, tmp_path / str(size))
        for size, each in settings.items()
    ]
    assert [row["answer"] for row in runs[0].rows] == [row["answer"] for row in runs[1].rows]
    assert max(len(row["answer"].split()) for row in runs[0].rows if row["benchmark"] == "pope") <= 16


def test_a_picture_of_mme_needs_both_questions(tmp_path) -> None:
    samples = ask("mme", tmp_path / "f").samples
    with pytest.raises(ValueError, match=r"mme/posters: tt01 has 1.*--per-task must be even"):
        evaluate(tiny_llava()[0], tiny_processor(), samples[:-1], EvaluateSettings(), tmp_path)


def test_another_protocol_is_another_evaluation(tmp_path) -> None:
    first, second = (ask("pope", tmp_path / "f", protocol=p).samples for p in ("official", "vlmevalkit"))
    assert [question(s) for s in first] == [question(s) for s in second]
    model = tiny_llava()[0]
    assert fingerprint(model, first, EvaluateSettings(), {}) != fingerprint(model, second, EvaluateSettings(), {})


def test_the_protocol_decides_the_score(tmp_path) -> None:
    official, theirs = (ask("pope", tmp_path / "f", protocol=p).samples[0] for p in ("official", "lmms-eval"))
    assert score_answer(official, "Yes.")["score"] == 1.0
    assert score_answer(theirs, "Yes.") == {"score": 0.0, "read_as": "other", "details": {}, "greedy_correct": False}
