import json

from mixtune.training.finish import run_metrics, save_run
from mixtune.training.logfile import LOG_FILE
from mixtune.training.setup import prepare
from runs import tiny_recipe


def write_log(folder, records):
    folder.mkdir(exist_ok=True)
    (folder / LOG_FILE).write_text("".join(json.dumps(record) + "\n" for record in records))


def record(step, loss, tokens=10, task_loss=None):
    task_loss = task_loss or {"a": loss}
    samples = dict.fromkeys(task_loss, 2)
    return {
        "step": step,
        "loss": loss,
        "tokens": tokens,
        "seconds": step,
        "task_loss": task_loss,
        "task_samples": samples,
    }


def test_metrics_are_totals_and_the_loss_of_the_last_tenth(tmp_path):
    late = [
        record(95, 2.0, tokens=10, task_loss={"a": 1.0, "b": 3.0}),
        record(100, 1.0, tokens=30, task_loss={"a": 2.0}),
    ]
    write_log(tmp_path, [record(10, 9.0), record(90, 8.0), *late])
    found = run_metrics(tmp_path)
    assert found["loss"] == (2.0 * 10 + 1.0 * 30) / 40
    assert found["task_loss"] == {"a": 1.5, "b": 3.0}
    assert (found["steps"], found["samples"], found["tokens"], found["seconds"]) == (100, 10, 60, 100)


def test_a_run_ends_with_its_files_and_the_result_last(tiny_llava, tmp_path):
    folder = tmp_path / "run"
    recipe = tiny_recipe(tmp_path / "d.jsonl", folder)
    prepared = prepare(tiny_llava()[0], recipe)
    write_log(folder, [record(4, 1.25)])
    metrics = save_run(folder, recipe, prepared, ["a", "b", "a"])
    names = {path.name for path in folder.iterdir()}
    assert names == {"README.md", "adapter_config.json", "adapter_model.safetensors", LOG_FILE, "train_result.json"}
    result = json.loads((folder / "train_result.json").read_text())
    assert result["metrics"] == metrics and result["tasks"] == {"a": 2, "b": 1}
    assert result["base"] == "tiny" and result["base_fingerprint"] == prepared.fingerprint
    assert result["parameters"]["routers"] > 0 and "torch" in result["versions"]
