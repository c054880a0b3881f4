"""A comparison's answer in words: what joint training costs, whether a mixture does better, and what limits both.

Every sentence is made from the numbers of comparison.json and says no more than they do: a difference is called one
only where the file calls it decided, and with one seed the sentence says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mixtune.analyse.report.compared import Compared
from mixtune.analyse.report.gaps import doubt_words, named, size_words, verdict
from mixtune.analyse.report.versus import arms_sentence, matched_sentence, tie_sentence
from mixtune.analyse.report.words import Said, listed, percent, plural, points
from mixtune.evaluate.settings import SPLITS

NEAR = 0.1  # parameter counts within a tenth of each other are called equal


def comparison_answer(compared: Compared) -> list[Said]:
    """The answer, most important first: one line for the title, then what joint training costs, how every arm stands on
    seen and on unseen tasks, what was equal between them, what equally large LoRA does, and what a tie is worth.
    """
    together = f"{together_sentence(compared)} {remaining_sentence(compared)}".strip()
    found = [Said("", headline(compared)), Said("Alone or together", together)]
    found += [Said(f"Arms, {split} tasks", arms_sentence(compared, split)) for split in SPLITS]
    found += [Said("Matched", matched_sentence(compared)), Said("Size", size_sentence(compared))]
    found.append(Said("Ties", tie_sentence(compared)))
    return [said for said in found if said.text]


def headline(compared: Compared) -> str:
    """Both questions in one line."""
    gap, base = compared.gap(compared.baseline), compared.baseline
    parts = []
    if gap is None:
        parts.append("what training the tasks together costs was not measured")
    elif verdict(gap) == "undecided":
        parts.append(f"{base}, trained on all tasks at once, and specialists differ by no more than noise")
    else:
        side = "behind" if gap["mean"] < 0 else "ahead of"
        parts.append(f"{base}, trained on all tasks at once, is {size_words(gap)} {side} specialists{_seen(compared)}")
    parts.append(_mixture_headline(compared))
    text = "; ".join(parts)
    told = [*([gap] if gap else []), *_gaps(compared, _first_split(compared)).values()]
    few = " (one seed)" if any(len(each["by_seed"]) == 1 for each in told) else ""
    return f"{text}{few}." if text.startswith(base) else f"{text[:1].upper()}{text[1:]}{few}."


def _mixture_headline(compared: Compared) -> str:
    base, split = compared.baseline, _first_split(compared)
    gaps = _gaps(compared, split)
    if not gaps:
        return "whether a mixture helps was not measured"
    ahead = {name: gap for name, gap in gaps.items() if verdict(gap) == "ahead"}
    where = f"on {split} tasks"
    if ahead:
        best = max(ahead, key=lambda name: ahead[name]["mean"])
        highest = max(gaps, key=lambda name: gaps[name]["mean"])
        of = f", the best of {len(gaps)} mixtures," if len(gaps) > 1 else ""
        of = of if best == highest else f", of {len(gaps)} mixtures the best that is told from {base},"
        more = [f"{len(ahead)} are ahead"] if len(ahead) > 1 else []
        more += [f"{highest} stands higher, but is not decided"] if best != highest else []
        note = f" ({'; '.join(more)})" if more else ""
        return f"{best}{of} is {size_words(ahead[best])} ahead of {base} {where}{note}{_plain_headline(compared)}"
    if all(verdict(gap) == "behind" for gap in gaps.values()):
        return f"{_all(len(gaps))} behind {base} {where}"
    if len(gaps) == 1:
        return f"{next(iter(gaps))} and {base} differ {where} by no more than noise"
    return f"none of the {len(gaps)} mixtures is ahead of {base} {where} by more than noise"


def _plain_headline(compared: Compared) -> str:
    """The plain LoRA that is furthest ahead of the baseline, with what it has more of; "" if none is."""
    found = {name: compared.difference(name, _first_split(compared)) for name in compared.plain}
    ahead = {name: gap for name, gap in found.items() if gap is not None and verdict(gap) == "ahead"}
    if not ahead:
        return ""
    best = max(ahead, key=lambda name: ahead[name]["mean"])
    return f"; so is {best}, without a mixture, by {size_words(ahead[best])}"


def _seen(compared: Compared) -> str:
    """How often specialists saw their tasks, where that is not as often as the baseline did."""
    share = compared.specialists_share
    return f", which saw each task {share:.2g} times as often" if share and abs(share - 1) > NEAR else ""


def together_sentence(compared: Compared) -> str:
    """The baseline, trained on all tasks at once, against specialists trained on one each."""
    base, special, gap = compared.baseline, compared.specialists, compared.gap(compared.baseline)
    if special is None:
        planned = any(facts["kind"] == "specialists" for facts in compared.facts.values())
        why = "no specialists have finished" if planned else "the comparison has no specialists"
        return f"What training the tasks together costs is not known: {why}."
    if gap is None:
        return (
            f"What training the tasks together costs is not known: {base} has not finished on the specialists' tasks."
        )
    words = {
        "behind": "is behind the specialists by more than the noise",
        "ahead": "is ahead of the specialists by more than the noise",
        "undecided": "is no further from the specialists than the noise",
    }
    said, facts = verdict(gap), f"{points(gap['mean'])} points, {doubt_words(gap)}"
    means = [_mean(compared, name, "seen", gap["tasks"]) for name in (base, special)]
    if None not in means:
        facts = f"{percent(means[0])} right against {percent(means[1])} ({facts})"
    return f"Trained on {plural(gap['tasks'], 'seen task')} at once, {base} {words[said]}: {facts}.{_shared(compared)}"


def _shared(compared: Compared) -> str:
    """The baseline against specialists that saw their tasks as often as it did, where others saw them more often."""
    found = ""
    for name, arms in compared.last["gaps"].items():
        gap = arms.get(compared.baseline, {}).get("splits", {}).get("seen")
        if gap and name != compared.specialists and compared.facts[name]["specialist_steps"] == "share":
            found += (
                f" Against {name}, which saw each task as often as it did, it stands at {points(gap['mean'])} points"
            )
            found += f", {doubt_words(gap)}{_noise(gap)}."
    return found


def remaining_sentence(compared: Compared) -> str:
    """The best mixture against specialists, where joint training was found to cost something; else ""."""
    gap, best = compared.gap(compared.baseline), compared.best_mixture
    left = compared.gap(best) if best else None
    if gap is None or left is None or verdict(gap) != "behind":
        return ""
    ends = {"behind": "still behind", "ahead": "ahead", "undecided": "within the noise"}
    said = f"{points(left['mean'])} points, {doubt_words(left)}: {ends[verdict(left)]}"
    return f"Against {compared.specialists}, {best} stands at {said}."


def size_sentence(compared: Compared) -> str:
    """How many more parameters the best mixture trains than the baseline, and what plain LoRA of its size does; "" if
    they train about as many, or the numbers are not there.
    """
    best, base = compared.best_mixture, compared.baseline
    sizes = {name: (arm["parameters"] or {}).get("total") or 0 for name, arm in compared.facts.items()}
    if not best or not sizes[best] or not sizes[base] or abs(sizes[best] / sizes[base] - 1) <= NEAR:
        return ""
    start = f"{best} trains {sizes[best] / sizes[base]:.1f} times as many parameters as {base}"
    peers = [
        name for name, arm in compared.facts.items()
        if name in compared.plain and abs(sizes[name] / sizes[best] - 1) <= NEAR
    ]  # fmt: skip
    gaps = {name: compared.difference(name, _first_split(compared)) for name in peers}
    told = [named(name, gap) + _noise(gap) for name, gap in gaps.items() if gap]
    if not told:
        return f"{start}, and no plain LoRA of that size was compared."
    return f"{start}; plain LoRA of about that size against {base} on {_first_split(compared)} tasks: {listed(told)}."


def floor_sentences(compared: Compared) -> list[str]:
    """What guessing and untuned models reach, and what is left with shuffled pictures, a sentence a split."""
    found = []
    for split in SPLITS:
        arms = {name: arm["splits"][split] for name, arm in compared.last["arms"].items() if split in arm["splits"]}
        chances = [arm["chance"] for arm in arms.values() if arm["chance"] is not None]
        parts = [f"guessing would reach {percent(chances[0])}"] if chances else []
        for name, arm in arms.items():
            if compared.facts[name]["kind"] == "untuned":
                parts.append(f"{name} reaches {percent(arm['mean'])}")
        parts += [blind_words(compared, name, split) for name in compared.spotlight()]
        known = [part for part in parts if part]
        if known:
            found.append(f"{split.capitalize()} tasks: {', '.join(known)}.")
    return found


def blind_words(compared: Compared, arm: str, split: str) -> str:
    """An arm's accuracy with other samples' pictures; "" if it was not asked so."""
    mean = blind_mean(compared.last, arm, split)
    return "" if mean is None else f"{arm} with shuffled pictures (first seed) {percent(mean)}"


def blind_mean(entry: Mapping[str, Any], arm: str, split: str) -> float | None:
    """Mean over a split's tasks of an arm's accuracy with shuffled pictures, None if it was not asked so."""
    blind = entry["arms"][arm].get("blind", {})
    known = [row["mean"] for task, row in blind.items() if entry["tasks"].get(task, {}).get("split") == split]
    return sum(known) / len(known) if known else None


def _gaps(compared: Compared, split: str) -> dict[str, Mapping[str, Any]]:
    found = {name: compared.difference(name, split) for name in compared.mixtures}
    return {name: gap for name, gap in found.items() if gap is not None}


def _first_split(compared: Compared) -> str:
    splits = {split for arm in compared.last["arms"].values() for split in arm["splits"]}
    return next((split for split in SPLITS if split in splits), SPLITS[0])


def _mean(compared: Compared, arm: str, split: str, tasks: int) -> float | None:
    """An arm's mean, if it is over as many tasks as the difference that it is printed beside."""
    found = compared.last["arms"].get(arm, {}).get("splits", {}).get(split)
    return found["mean"] if found and found["tasks"] == tasks else None


def _noise(gap: Mapping[str, Any]) -> str:
    return ", within the noise" if verdict(gap) == "undecided" else ""


def _all(number: int) -> str:
    return "the one mixture is" if number == 1 else f"all {number} mixtures are"


def caveats(compared: Compared) -> Sequence[str]:
    """What a reader must know before believing the answer."""
    content, found = compared.content, list[str]()
    runs, arms = content["runs"], compared.last["arms"]
    seeds = sorted({len(arm["seeds"]) for name, arm in arms.items() if compared.facts[name]["kind"] != "untuned"})
    if seeds == [1]:
        found.append("One seed: the intervals are about the questions alone, and another seed would move every number.")
    elif seeds:
        some = plural(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
        found.append(f"{some} an arm; intervals join other seeds and other questions of these tasks.")
    if not any("blind" in arm for arm in compared.last["arms"].values()):
        found.append(
            "No blind control (shuffled pictures) was run: how much of a score needs the picture is not known."
        )
    share = compared.facts[compared.specialists]["specialist_steps"] if compared.specialists else None
    if share == "matched":
        times = compared.specialists_share
        often = f"{times:.2g} times as often as" if times else "more often than"
        found.append(f"A specialist spends all its steps on one task, so it saw that task {often} the joint run did.")
    elif share == "share":
        found.append(
            "A specialist takes its task's share of the steps, so it saw that task as often as the joint run did."
        )
    missing = [row["arm"] for row in runs if not row["done"]]
    if missing:
        found.append(
            f"{len(missing)} of {len(runs)} runs did not finish or failed "
            f"({listed(list(dict.fromkeys(missing)))}); an arm counts only its whole seeds."
        )
    edge = list(dict.fromkeys(row["arm"] for row in content["search"] if row["chosen"] and row["at_edge"]))
    if edge:
        found.append(f"The search ended at the edge of its grid for {listed(edge)}: better settings may lie outside.")
    return found
