"""The pictures shown are chosen by turn, and embedded small."""

import base64
import io
from collections import Counter

from PIL import Image

from fake_runs import USUAL, fake_run
from mixtune.analyse.report.gallery import choose_samples, embed_picture, sample_cards
from mixtune.analyse.runs import find_runs, read_runs


def test_tasks_and_cases_take_turns(tmp_path) -> None:
    runs = read_runs(find_runs(fake_run(tmp_path, USUAL)), "mixlora", "lora")
    chosen = choose_samples(runs, "rank", 12)
    assert len(set(chosen)) == 12
    assert chosen == choose_samples(runs, "rank", 12)
    assert Counter(name.split("-")[0] for name in chosen) == {"clock": 4, "letter": 4, "flag": 4}
    outcomes = [{row["id"]: row["rank_correct"] for row in run.rows} for run in runs[:2]]
    assert {tuple(each[name] for each in outcomes) for name in chosen} >= {
        (True, False),
        (True, True),
        (False, False),
    }
    assert len(choose_samples(runs, "rank", 1000)) == 60


def test_fewer_pictures_than_tasks_are_spread_over_them(tmp_path) -> None:
    runs = read_runs(find_runs(fake_run(tmp_path, USUAL)), "mixlora", "lora")
    assert [name.split("-")[0] for name in choose_samples(runs, "rank", 2)] == ["letter", "clock"]


def test_pictures_of_mixtunes_folder_are_found_where_it_is(tmp_path, monkeypatch) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    monkeypatch.setenv("MIXTUNE_HOME", str(tmp_path))
    assert embed_picture("$MIXTUNE_HOME/x.png") == embed_picture(tmp_path / "x.png") is not None


def test_pictures_are_shrunk_and_missing_ones_left_out(tmp_path) -> None:
    runs = read_runs(find_runs(fake_run(tmp_path, USUAL)), "mixlora", "lora")
    url = embed_picture(runs[0].rows[0]["image"])
    assert url is not None and url.startswith("data:image/png;base64,")
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
        assert picture.size == (256, 34)
    assert embed_picture(tmp_path / "nothing.png") is None
    assert embed_picture(None) is None
    card = sample_cards(runs, "rank", 1)[0]
    assert [answer["label"] for answer in card["answers"]] == ["mixlora", "lora", "untuned"]
