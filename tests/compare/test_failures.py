"""Why a command failed."""

from mixtune.compare.failures import LONGEST, TAIL, reason


def test_a_signal_is_named(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("step 3\n")
    assert reason(-9, log) == "ended by SIGKILL, as a system out of memory does"
    assert reason(-15, log) == "ended by SIGTERM" and reason(-200, log) == "ended by signal 200"


def test_the_last_line_of_the_log_tells(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("x" * 2 * TAIL + "\nTraceback\n\rtorch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB\n \n")
    assert reason(1, log) == "torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB"
    log.write_text("y" * 2 * LONGEST)
    assert reason(1, log) == "y" * LONGEST


def test_a_silent_end_is_told_by_its_status(tmp_path):
    assert reason(3, tmp_path / "log.txt") == "left with 3"
    (tmp_path / "log.txt").write_text("an earlier start's last words\n$ mixtune train run.yaml\n\n")
    assert reason(3, tmp_path / "log.txt") == "left with 3"


def test_a_progress_bar_is_no_reason(tmp_path):
    log = tmp_path / "log.txt"
    bars = "\rtraining:  10%|█         | 2/20 [00:11<01:39,  5.52s/it]\nreading ━━━━━ 3/4 00:01\n"
    log.write_text(f"torch.OutOfMemoryError: CUDA out of memory.\n{bars}", encoding="utf-8")
    assert reason(1, log) == "torch.OutOfMemoryError: CUDA out of memory."
