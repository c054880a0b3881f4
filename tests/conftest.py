"""Shared fixtures. The environment is set first, because transformers reads it when it is imported."""

import os
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: more threads only wait for each other
_HOME = tempfile.TemporaryDirectory(prefix="mixtune-tests-")
os.environ["MIXTUNE_HOME"] = _HOME.name

import pytest  # noqa: E402


@pytest.fixture
def tiny_llava():
    """The factory `tiny_llava(seed=0) -> (model, processor)` of tests/tiny.py: random weights, no network."""
    import tiny  # imports transformers, which tests of settings and the like should not wait for

    return tiny.tiny_llava


@pytest.fixture
def tiny_samples(tmp_path):
    """Factory `(n=12, tasks=...) -> path` of a messages JSONL whose pictures lie in `tmp_path / "tiny"`."""
    import tiny

    def build(n: int = 12, tasks: tuple[str, ...] = tiny.TASKS):
        return tiny.tiny_samples(tmp_path / "tiny", n, tasks)

    return build
