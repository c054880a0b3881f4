"""interference.json: every bank, and banks pooled by layer, by kind of linear and all together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixtune.analyse.interference.banks import SIDES, AdaptedLinear, bank_key
from mixtune.analyse.interference.measuring import MEAN, UNIT
from mixtune.analyse.interference.settings import InterferenceSettings
from mixtune.analyse.interference.statistics import Resampler, Summary, Tally, tally
from mixtune.analyse.interference.store import joined

FORMAT, FILE = "mixtune-interference/1", "interference.json"
EXTREMES = 5  # pairs named in the summary


@dataclass
class Pool:
    """Banks that are looked at together: their names and sums."""

    side: str
    kind: str
    name: str
    linears: list[AdaptedLinear] = field(default_factory=list)
    first: Tally | None = None
    ahead: Tally | None = None

    def add(self, linear: AdaptedLinear, first: Tally, ahead: Tally | None) -> None:
        """Count one bank in."""
        self.linears.append(linear)
        if self.first is None:
            self.first, self.ahead = first.copy(), ahead.copy() if ahead else None
            return
        self.first.add(first)
        if self.ahead is not None and ahead is not None:
            self.ahead.add(ahead)

    def record(self, tasks: Sequence[str], confidence: float) -> dict[str, Any]:
        """One entry of groups or banks."""
        assert self.first is not None
        summary = Summary(self.first, tasks, confidence)
        return {
            "side": self.side,
            "name": self.name,
            "kind": self.kind,
            "layers": sorted({each.depth for each in self.linears}),
            "linears": list(dict.fromkeys(each.linear for each in self.linears)),
            "modules": len(self.linears),
            "module": self.linears[0].name if self.kind == "bank" else None,
            **summary.score(),
            "self_check": summary.check(),
            **summary.cosines(),
            "lookahead": Summary(self.ahead, tasks, confidence).score() if self.ahead else None,
        }


def groups_and_banks(
    parts: list[Path],
    linears: Sequence[AdaptedLinear],
    layers: Sequence[tuple[int, str]],
    tasks: Sequence[str],
    settings: InterferenceSettings,
) -> dict[str, list[dict[str, Any]]]:
    """`groups` and `banks` from the measured parts, one bank at a time; `layers` are (number, name) of the chosen."""
    resampler = Resampler(
        joined(parts, "tasks"), len(tasks), settings.blocks, resamples=settings.resamples, seed=settings.seed
    )
    pools: dict[tuple[str, str, str], Pool] = {}
    banks = []
    for side in SIDES:
        for linear in linears:
            first, ahead = _tallies(parts, bank_key(side, linear), resampler, settings)
            one = Pool(side, "bank", f"{dict(layers)[linear.depth]} {linear.linear}")
            one.add(linear, first, ahead)
            banks.append(one.record(tasks, settings.confidence))
            for kind, name in (("all", "all"), ("depth", dict(layers)[linear.depth]), ("linear", linear.linear)):
                pools.setdefault((side, kind, name), Pool(side, kind, name)).add(linear, first, ahead)
    ordered = sorted(pools.values(), key=lambda pool: (pool.side, ("all", "depth", "linear").index(pool.kind)))
    return {"groups": [pool.record(tasks, settings.confidence) for pool in ordered], "banks": banks}


def _tallies(
    parts: list[Path], key: str, resampler: Resampler, settings: InterferenceSettings
) -> tuple[Tally, Tally | None]:
    first = tally(joined(parts, f"{UNIT} {key}"), joined(parts, f"{MEAN} {key}"), resampler)
    if settings.lookahead is None:
        return first, None
    return first, tally(joined(parts, f"ahead {key}"), None, resampler)


def summaries(groups: Sequence[dict[str, Any]], tasks: Sequence[str]) -> list[dict[str, Any]]:
    """`summary`: of each group over all banks or one layer, how many pairs help and hurt, and the extreme pairs."""
    return [_summary(group, tasks) for group in groups if group["kind"] in ("all", "depth")]


def verdict(group: dict[str, Any], tasks: Sequence[str], i: int, j: int) -> str:
    """What cell (i, j) of a group says: "undecided", "helps", "hurts" or "unclear"."""
    low, high = group["score"]["low"][i][j], group["score"]["high"][i][j]
    if tasks[i] in group["undecided"] or low is None or high is None:
        return "undecided"
    return "helps" if low > 0 else "hurts" if high < 0 else "unclear"


def _summary(group: dict[str, Any], tasks: Sequence[str]) -> dict[str, Any]:
    pairs = list(_pairs(len(tasks)))
    said = {pair: verdict(group, tasks, *pair) for pair in pairs}
    decided = [pair for pair in pairs if said[pair] != "undecided"]
    values = {(i, j): group["score"]["value"][i][j] for i, j in decided}
    worst = sorted((pair for pair in decided if said[pair] == "hurts"), key=lambda pair: values[pair])
    best = sorted((pair for pair in decided if said[pair] == "helps"), key=lambda pair: -values[pair])
    return {
        "side": group["side"],
        "name": group["name"],
        "pairs": len(pairs),
        **{word: list(said.values()).count(word) for word in ("helps", "hurts", "unclear", "undecided")},
        "mean": float(f"{sum(values.values()) / len(values):.4g}") if values else None,
        "worst": [{"hurt": tasks[i], "by": tasks[j], "score": _cell(group, i, j)} for i, j in worst[:EXTREMES]],
        "best": [{"helped": tasks[i], "by": tasks[j], "score": _cell(group, i, j)} for i, j in best[:EXTREMES]],
    }


def _pairs(count: int) -> Iterator[tuple[int, int]]:
    return ((i, j) for i in range(count) for j in range(count) if i != j)


def _cell(group: dict[str, Any], i: int, j: int) -> dict[str, float]:
    return {end: group["score"][end][i][j] for end in ("value", "low", "high")}
