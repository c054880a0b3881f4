"""The page's text and scripts."""

import base64
import gzip

import pytest

from mixtune.analyse.report.page import packed, unbroken


@pytest.mark.parametrize(
    ("text", "gaps"),
    [
        ("62.0 % right against 66.5 % of all", 2),
        ("(−4.5 points, 95 % interval −5.5 to −3.5, p < 0.001 after Holm)", 1 + 2 + 2),
        ("p = 0.89", 2),
        ("1 to 3 seeds, 20 of 21 tasks, up to 5 steps", 2),
        ("a step is = 3 and map < 4", 0),
    ],
)
def test_numbers_stay_on_one_line(text, gaps) -> None:
    kept = unbroken(text)
    assert kept.replace("\u00a0", " ") == text and kept.count("\u00a0") == gaps


def test_a_script_is_packed_the_same_every_time() -> None:
    script = "let a = '<é>';" * 100
    assert packed(script) == packed(script) and len(packed(script)) < len(script) / 4
    assert gzip.decompress(base64.b64decode(packed(script))).decode() == script
