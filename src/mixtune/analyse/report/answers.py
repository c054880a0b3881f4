"""The words the page opens with, from everything that lies in the folder."""

from __future__ import annotations

from collections.abc import Sequence

from mixtune.analyse.report.compared import Compared
from mixtune.analyse.report.curves import ALL_TASKS
from mixtune.analyse.report.headline import Comparison, answer_sentences, compare_splits, floor_sentence
from mixtune.analyse.report.interference import interference_answer
from mixtune.analyse.report.material import Material
from mixtune.analyse.report.routing import routing_answer
from mixtune.analyse.report.rows import split_order
from mixtune.analyse.report.verdicts import caveats, comparison_answer, floor_sentences
from mixtune.analyse.report.words import Said, few_words, plural


def run_comparisons(material: Material) -> list[Comparison]:
    """The first evaluated model against the second on every split they share."""
    runs = material.runs
    return compare_splits(runs[0], runs[1], material.settings.way) if len(runs) > 1 else []


def open_with(material: Material, comparisons: Sequence[Comparison]) -> list[Said]:
    """The answer, most important first: the comparison's, the evaluated models', then of interference and routing."""
    found = comparison_answer(material.comparison) if material.comparison else []
    if material.runs:
        words = answer_sentences(material.runs, comparisons, material.settings.way)
        found += [Said("" if not found else "Evaluated models", text) for text in words]
    for contents, answer in ((material.interference, interference_answer), (material.routing, routing_answer)):
        for label, content in contents.items():
            found += answer(content, label if len(contents) > 1 else "")
    return found


def strangers(compared: Compared) -> str:
    """What to say of tasks that the questions call seen though no run trained on them; "" where logs tell of none."""
    trained = set(compared.curves) - {ALL_TASKS}
    seen = [name for name, task in compared.last["tasks"].items() if task["split"] == "seen"]
    missing = [name for name in seen if name not in trained] if trained else []
    if not missing:
        return ""
    few = ", ".join(missing[:4]) + (", …" if len(missing) > 4 else "")
    return f"Of {plural(len(seen), 'task')} that the questions call seen, no run trained on {len(missing)}: {few}."


def judge_by(material: Material) -> list[str]:
    """Smaller sentences: what guessing and untuned models reach, and what limits the answer."""
    found = [*floor_sentences(material.comparison), *caveats(material.comparison)] if material.comparison else []
    for split in split_order(material.runs) if material.runs else ():
        text = floor_sentence(material.runs, split, material.settings.way)
        if text:
            found.append(f"{split.capitalize()} tasks: {text[:1].lower()}{text[1:]}")
    if material.comparison:
        found.append(strangers(material.comparison))
        found.append(few_words(min(task["n"] for task in material.comparison.last["tasks"].values()), "question"))
    if len(material.runs) > 1:
        found.append(
            "The intervals are about the questions; each model was trained once, and another seed would move its "
            "numbers too."
        )
    for content in material.interference.values():
        found.append(
            f"Interference is measured on {', '.join(content['data'])} with the adapter as it is now: it says what the "
            "next step would do, not what training has done."
        )
        found.append(few_words(min(task["measured"] for task in content["tasks"]), "measured sample"))
    return [text for text in dict.fromkeys(found) if text]
