"""One process at a time prepares."""

import subprocess
import sys

from mixtune.pocket.once import LOCK, preparing

HOLDER = """
import sys, pathlib, filelock
with filelock.FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_told_and_waited_for(tmp_path):
    root, said = tmp_path / "pocket", []
    with preparing(root, said.append):
        assert (root / LOCK).exists()
    assert not said
    words = [sys.executable, "-c", HOLDER, str(root / LOCK)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"

        def say(text):
            said.append(text)
            other.stdin.close()  # the other one ends, and only then does the block begin

        with preparing(root, say):
            assert said and str(root) in said[0]


def test_a_killed_process_leaves_no_lock(tmp_path):
    words, said = [sys.executable, "-c", HOLDER, str(tmp_path / LOCK)], []
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        other.kill()
    with preparing(tmp_path, said.append):
        assert not said
