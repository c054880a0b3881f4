"""Questions are known by what they ask, not by where they lie."""

from dataclasses import replace

from mixtune.compare.asked import AskedFor, digest, questions_digest
from mixtune.data import Message, Sample, fingerprint_samples
from mixtune.data.sample import ImageRef


def test_runs_are_known_again_where_mixtunes_folder_is_another(tmp_path, monkeypatch):
    found = []
    for home in ("here", "there"):
        monkeypatch.setenv("MIXTUNE_HOME", str(tmp_path / home))
        pictures = (ImageRef(str(tmp_path / home / "pocket" / "1.png")), ImageRef("/elsewhere/2.png"))
        sample = Sample(id="1", messages=(Message("user", "q"), Message("assistant", "a")), images=pictures, task="t")
        found.append((questions_digest([sample]), fingerprint_samples([sample])))
    assert found[0] == found[1]
    other = replace(sample, images=(ImageRef("/elsewhere/1.png"), pictures[1]))
    assert questions_digest([other]) != found[0][0] and fingerprint_samples([other]) != found[0][1]


def test_digests_tell_questions_apart():
    sample = Sample(
        id="1", messages=(Message("user", "q"), Message("assistant", "a")), images=(), task="t", options=("a", "b")
    )
    same = replace(sample, origin="elsewhere")
    assert questions_digest([sample]) == questions_digest([same])
    for other in (replace(sample, id="2"), replace(sample, options=("a",)), replace(sample, task="u")):
        assert questions_digest([sample]) != questions_digest([other])
    assert AskedFor.of([sample, same, replace(sample, task="s")]).tasks == ("t", "s")
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1})
