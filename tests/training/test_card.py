import yaml

from mixtune.config import load_recipe
from mixtune.training.card import CardFacts, write_card
from runs import tiny_recipe

FACTS = CardFacts(
    tasks={"colour": 1200, "count": 3},
    parameters={"factors": 5, "routers": 6, "projector": 7, "other": 0},
    metrics={"loss": 0.5, "steps": 12},
    versions={"torch": "2"},
)


def card_of(folder, **options):
    folder.mkdir(exist_ok=True)
    write_card(folder, tiny_recipe("somewhere/pairs.jsonl", folder, **options), FACTS)
    text = (folder / "README.md").read_text()
    return yaml.safe_load(text.split("---")[1]), text


def test_the_metadata_is_what_hubs_read(tmp_path):
    head, _ = card_of(tmp_path / "run")
    assert head["base_model"] == "tiny" and head["library_name"] == "peft"
    assert head["pipeline_tag"] == "image-text-to-text" and head["datasets"] == ["pairs.jsonl"]
    assert {"mixtune", "mixtune:mixlora", "task:colour", "task:count"} <= set(head["tags"])


def test_the_card_says_tasks_parameters_result_and_the_whole_recipe(tmp_path):
    _, text = card_of(tmp_path / "run")
    assert "| colour | 1,200 |" in text and "| routers | 6 |" in text and "| loss | 0.5 |" in text
    assert "1,203 samples of 2 task(s)" in text
    (tmp_path / "again.yaml").write_text(text.split("```yaml\n")[1].split("```")[0])
    assert load_recipe(tmp_path / "again.yaml") == tiny_recipe("somewhere/pairs.jsonl", tmp_path / "run")


def test_loading_takes_six_lines_that_run(tmp_path):
    for name, options in (("tuned", {}), ("aligned", {"adapter": None})):
        _, text = card_of(tmp_path / name, **options)
        code = text.split("```python\n")[1].split("```")[0]
        assert len(code.splitlines()) <= 6
        compile(code, name, "exec")
        assert f'"{name}"' in code
