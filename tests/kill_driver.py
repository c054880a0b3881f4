"""Train in forked children, kill them at chosen points, let others go on; print how the results compare as JSON.

A process of its own, started once by training/test_checkpoint.py: it imports everything, runs nothing itself (a fork of
a process whose thread pools are busy may hang), and so each kill costs no import. Children kill themselves at an exact
point with SIGKILL, which no code of theirs sees coming; one is killed from outside, when its first log line appears.
"""

import json
import os
import shutil
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import torch
from safetensors.torch import load_file

import tiny
from mixtune.train import train
from mixtune.training import checkpoint as store
from mixtune.training import finish
from mixtune.training.logfile import LOG_FILE, WALL_CLOCK, read_log
from mixtune.training.routing_log import ROUTING_FILE
from mixtune.training.trainer import MixtureTrainer
from runs import tiny_recipe

VARIANTS = {
    "mixlora": {"adapter": {"preset": "mixlora", "lora_dropout": 0.2}},
    "mole": {
        "adapter": {"preset": "llava-mole", "r": 2, "lora_dropout": 0.2},
        "dtype": "bfloat16",
        "gradient_checkpointing": True,
    },
    "align": {"adapter": None, "warm_start_steps": 3},
}
# Name of a scenario: variant, and the points at which one child after another dies. 12 steps, checkpoints every 3, the
# log every 2 (so that windows are open at checkpoints), an epoch of 6 (so that one checkpoint ends an epoch).
SCENARIOS = {
    "before the first checkpoint": ("mixlora", ["step 2"]),
    "right after a checkpoint": ("mixlora", ["published 1"]),
    "right after the checkpoint that ends an epoch": ("mixlora", ["published 2"]),
    "while a checkpoint is written": ("mixlora", ["saving 2"]),
    "before a checkpoint is renamed": ("mixlora", ["renaming 2"]),
    "while an old checkpoint is deleted": ("mixlora", ["rotating 1"]),
    "late": ("mixlora", ["step 11"]),
    "twice": ("mixlora", ["step 5", "step 8"]),
    "after the last checkpoint": ("mixlora", ["finishing 1"]),
    "from outside": ("mixlora", ["outside"]),
    "token routing, bfloat16, recomputation": ("mole", ["step 7"]),
    "projector": ("align", ["step 4"]),
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner, name: str, number: int, action=die, when=lambda *args, **kwargs: True) -> None:
    """Run `action` instead of the `number`-th call of `owner.name` for which `when` holds."""
    original, calls = getattr(owner, name), [0]

    def replaced(*args, **kwargs):
        calls[0] += bool(when(*args, **kwargs))
        if calls[0] == number and when(*args, **kwargs):
            return action(*args) if action is not die else die()
        return original(*args, **kwargs)

    setattr(owner, name, replaced)


def after(owner, name: str, number: int) -> None:
    """Die after the `number`-th call of `owner.name`."""
    original, calls = getattr(owner, name), [0]

    def replaced(*args, **kwargs):
        result = original(*args, **kwargs)
        calls[0] += 1
        if calls[0] == number:
            die()
        return result

    setattr(owner, name, replaced)


def half_file(_value, path) -> None:
    Path(path).write_bytes(b"half")
    die()


def half_deleted(folder) -> None:
    (Path(folder) / "trainer_state.json").unlink()
    die()


def arm(point: str) -> None:
    """Prepare this process to die at `point`."""
    kind, _, number = point.partition(" ")
    count = int(number or 0)
    if kind == "step":  # in its first micro-batch
        before(MixtureTrainer, "compute_loss", 1, when=lambda trainer, *a, **k: trainer.state.global_step == count)
    elif kind == "published":
        after(store, "publish", count)
    elif kind == "saving":
        before(torch, "save", count, half_file, when=lambda _value, path, *rest: str(path).endswith("optimizer.pt"))
    elif kind == "renaming":
        before(store.os, "replace", count, when=lambda source, target: Path(target).name.startswith("checkpoint-"))
    elif kind == "rotating":
        before(shutil, "rmtree", count, half_deleted, when=lambda path, **k: not k and store.DOOMED in str(path))
    elif kind == "finishing":
        before(finish.store, "write_atomic", count, when=lambda path, text: path.name == store.RESULT_FILE)


def start(recipe, point: str = "", **environment: object) -> int:
    """The process id of a child that runs the recipe and perhaps dies at `point`."""
    pid = os.fork()
    if pid == 0:
        os.environ.update({name: str(value) for name, value in environment.items()})
        try:
            arm(point)
            with open(os.devnull, "w") as quiet:
                os.dup2(quiet.fileno(), 1)
            train(recipe)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return pid


def run(recipe, point: str = "") -> int:
    """The wait status of such a child."""
    pid = start(recipe, point)
    if point == "outside":
        log = Path(recipe.train.output_dir) / LOG_FILE
        while not log.exists() or not log.read_bytes():
            time.sleep(0.005)
        os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def run_pair(recipe) -> list[int]:
    """The wait statuses of two processes that run the recipe together, as a launcher would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free.getsockname()[1]}
    children = [start(recipe, RANK=rank, LOCAL_RANK=rank, **shared) for rank in range(2)]
    return [os.waitpid(pid, 0)[1] for pid in children]


def tensors(folder: Path) -> dict:
    return {path.name: load_file(path) for path in sorted(folder.glob("*.safetensors"))}


def differing(left: dict, right: dict) -> list[str]:
    """Names of tensors that are not in both or not equal in every bit."""
    flat = [
        {f"{file}:{name}": value for file, found in side.items() for name, value in found.items()}
        for side in (left, right)
    ]
    names = flat[0].keys() | flat[1].keys()
    same = {
        n
        for n in flat[0].keys() & flat[1].keys()
        if flat[0][n].dtype == flat[1][n].dtype and torch.equal(flat[0][n], flat[1][n])
    }
    return sorted(names - same) or ([] if names else ["no tensors"])


def log_of(folder: Path) -> list[dict]:
    records = [*read_log(folder / LOG_FILE), *read_log(folder / ROUTING_FILE)]
    return [{k: v for k, v in record.items() if k not in WALL_CLOCK} for record in records]


def main(root: Path) -> None:
    os.fsync = lambda descriptor: None  # a killed process loses nothing that it has written; a dead machine would
    data = tiny.tiny_samples(root / "data", 24)
    for name, options in VARIANTS.items():
        assert run(tiny_recipe(data, root / name, **options)) == 0, name
    results = {}
    for number, (name, (variant, points)) in enumerate(SCENARIOS.items()):
        folder = root / f"run-{number}"
        recipe = tiny_recipe(data, folder, **VARIANTS[variant])
        killed = [run(recipe, point) for point in points]
        left = [path.name for path in store.list_checkpoints(folder)]
        results[name] = {
            "killed": killed,
            "left": left,
            "finished": run(recipe),
            "differing": differing(tensors(root / variant), tensors(folder)),
            "same_log": log_of(root / variant) == log_of(folder),
            "hidden": [path.name for path in folder.iterdir() if path.name.startswith(".")],
        }
    alone, together = (
        tiny_recipe(data, root / name, adapter={"preset": "mixlora", "init_weights": False}, **shape)
        for name, shape in (
            ("alone", {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}),
            ("together", {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2}),
        )
    )
    assert run(alone) == 0
    pair = {"finished": run_pair(together), "folders": [alone.train.output_dir, together.train.output_dir]}
    sys.stdout.write(json.dumps({"killed": results, "pair": pair}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
