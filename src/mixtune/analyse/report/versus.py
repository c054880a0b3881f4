"""Every arm against the baseline in words, what was equal between them, and what a tie is worth."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mixtune.analyse.report.compared import Compared
from mixtune.analyse.report.gaps import Gap, doubt_words, named, verdict
from mixtune.analyse.report.words import interval, listed, plural, points

CONFLICT = re.compile(r"pocket/conflict(?!.*-0(\.0*)?(/|$))")  # of any strength but none
TIE = (
    "A tie is expected on a natural mix, one that was not built to conflict, and is evidence of nothing: neither that "
    "tasks never fight nor that a mixture cannot help. Not told apart is not equal."
)


def arm_gaps(compared: Compared, split: str) -> dict[str, Gap]:
    """The difference to the baseline of every arm of one model for all tasks that has one on the split."""
    joint = [name for name, arm in compared.facts.items() if arm["kind"] == "joint" and name != compared.baseline]
    found = {name: compared.difference(name, split) for name in joint}
    return {name: gap for name, gap in found.items() if gap is not None}


def arms_sentence(compared: Compared, split: str) -> str:
    """Which arms differ from the baseline on one split, by how much, and which do not; "" if that split was not asked.

    Specialists and untuned models are left out, though Holm's correction counts them.
    """
    base, gaps = compared.baseline, arm_gaps(compared, split)
    if not any(split in arm["splits"] for arm in compared.last["arms"].values()):
        return ""
    if not gaps:
        why = f"{base} has not finished" if base not in compared.last["arms"] else "no other arm has finished"
        return f"Whether another arm does better on {split} tasks is not known: {why}."
    tasks = plural(max(gap["tasks"] for gap in gaps.values()), f"{split} task")
    if len(gaps) == 1:
        return f"On the {tasks}, {_alone(base, *next(iter(gaps.items())))}."
    family = sum(split in arm["splits"] for arm in compared.last["differences"].values())
    groups = {said: {n: g for n, g in gaps.items() if verdict(g) == said} for said in ("ahead", "behind", "undecided")}
    told = len(groups["ahead"]) + len(groups["behind"])
    parts = [
        f"On the {tasks}, {told or 'none'} of {len(gaps)} arms {'differs' if told == 1 else 'differ'} from {base} by "
        f"more than the noise (the 95 % interval leaves zero out, and p < 0.05 after Holm's correction for {family})."
    ]
    for said in ("ahead", "behind"):
        found = sorted(groups[said].items(), key=lambda each: -abs(each[1]["mean"]))
        parts += [f"{said.capitalize()}: {'; '.join(named(*each) for each in found)}."] if found else []
    unsure = sorted(groups["undecided"].items(), key=lambda each: -each[1]["mean"])
    rest = listed([f"{name} ({interval(gap)})" for name, gap in unsure])
    return " ".join([*parts, *([f"Not told from {base}: {rest}."] if rest else [])])


def _alone(base: str, name: str, gap: Gap) -> str:
    words = {
        "ahead": f"ahead of {base} by more than the noise",
        "behind": f"behind {base} by more than the noise",
        "undecided": f"no further from {base} than the noise",
    }
    return f"{name} is {words[verdict(gap)]}: {points(gap['mean'])} points, {doubt_words(gap)}"


def is_conflict(compared: Compared) -> bool:
    """Whether all that was asked belongs to a mix that was built to conflict."""
    asked = compared.content["settings"].get("evaluate", {}).get("benchmarks", ())
    return bool(asked) and all(CONFLICT.match(name) for name in asked)


def tie_sentence(compared: Compared) -> str:
    """What a tie is worth, on mixes where one is expected; "" for a mix built to conflict, or without any tie."""
    gaps = [compared.gap(compared.baseline), *(compared.difference(name, "seen") for name in compared.mixtures)]
    tied = any(gap is not None and verdict(gap) == "undecided" for gap in gaps)
    return TIE if tied and not is_conflict(compared) else ""


def matched_sentence(compared: Compared) -> str:
    """What was equal between the arms and what was not: steps, samples a step, scale, trained parameters, search."""
    said = [text for text in compared.content["matched"] if not text.startswith("Scale:")]
    return " ".join([*said, *filter(None, (_scales(compared), _sizes(compared), _searched(compared)))])


def _scales(compared: Compared) -> str:
    """The scale of every adapter as it was trained."""
    found: dict[float, list[str]] = {}
    for name, arm in compared.facts.items():
        if arm.get("scale") is not None:
            found.setdefault(arm["scale"], []).append(name)
    if len(found) < 2:
        return "".join(f"Scale {scale:g} in every adapter." for scale in found)
    usual = max(found, key=lambda scale: len(found[scale]))
    others = "; ".join(f"{scale:g} in {listed(names)}" for scale, names in sorted(found.items()) if scale != usual)
    return f"Scale {usual:g} in every adapter, but {others}."


def _sizes(compared: Compared) -> str:
    """Trained parameters of one model, as multiples of the baseline's."""
    totals: Mapping[str, int] = {
        name: arm["parameters"]["total"] for name, arm in compared.facts.items() if arm["parameters"]
    }
    base = totals.get(compared.baseline)
    if not base:
        return ""
    groups: dict[str, list[str]] = {}
    for name, total in sorted(totals.items(), key=lambda each: each[1]):
        if name != compared.baseline:
            groups.setdefault(f"{total / base:.1f}", []).append(name)
    equal = groups.pop("1.0", [])
    told = [f"{times} times as many in {listed(names)}" for times, names in groups.items()]
    told = [*([f"as many in {listed(equal)}"] if equal else []), *told]
    return f"{compared.baseline} trains {base:,} parameters" + (f"; {', '.join(told)}." if told else ".")


def _searched(compared: Compared) -> str:
    rows = compared.content["search"]
    if not rows:
        return "Nothing was searched: every arm has the settings of the file."
    names = list(dict.fromkeys(key.rpartition(".")[2].replace("_", " ") for row in rows for key in row["point"]))
    keys, come = listed(names), "come" if len(names) > 1 else "comes"
    points_tried = [sum(row["arm"] == name for row in rows) for name in dict.fromkeys(row["arm"] for row in rows)]
    some = f"{min(points_tried)} to {max(points_tried)}" if len(set(points_tried)) > 1 else str(points_tried[0])
    shared = {name: arm.get("search_as") for name, arm in compared.content["settings"].get("arms", {}).items()}
    taken = listed([f"{name} took {other}'s" for name, other in shared.items() if other])
    text = f"{keys[:1].upper()}{keys[1:]} of each arm {come} from the same search ({some} points an arm, one seed)"
    return f"{text}; {taken}." if taken else f"{text}."
