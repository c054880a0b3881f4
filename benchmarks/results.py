"""What a benchmark found: the full result as JSON, its ratios beside the stored ones, tables for a terminal."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import Case, Measured, times
from benchmarks.options import Settings
from mixtune.training.environment import describe_environment

MOVED = 0.10
INSTRUCTIONS = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16")
Ratios = Mapping[str, Mapping[str, Mapping[str, float]]]  # case, arm, "time" or "best" or "peak"
Results = Sequence[tuple[Case, Mapping[str, Measured]]]


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is promised of one arm: `of` ("time" or "peak") at most `limits[dtype]` × that of `peer`, in the largest
    case of the dtype.
    """

    arm: str
    peer: str
    limits: Mapping[str, float]
    of: str = "time"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A target and what was measured."""

    case: str
    arm: str
    peer: str
    of: str
    limit: float
    measured: float

    @property
    def kept(self) -> bool:
        """Whether the target is met."""
        return self.measured <= self.limit


def environment(settings: Settings) -> dict[str, Any]:
    """What a figure depends on beside the code: versions, device, instruction sets of the CPU, threads and how
    they wait, and how many processes wanted to run in the minute before.
    """
    found = {name: value for name, value in describe_environment().items() if name != "home"}
    able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    found["device"] = torch.cuda.get_device_name(settings.device) if settings.device.startswith("cuda") else "cpu"
    found["instructions"] = " ".join(name for name in INSTRUCTIONS if able.get(name))
    found["waiting"] = os.environ.get("OMP_WAIT_POLICY", "as OpenMP decides")
    return {**found, "load": f"{os.getloadavg()[0]:.1f}"}


def compared(arm: Measured, reference: Measured, case: Case) -> dict[str, float]:
    """Time ("best": of the fastest calls) and, where measured, peak memory of `arm` as multiples of the reference's."""
    best = min(arm.seconds[case.judged]) / min(reference.seconds[case.judged])
    found = {"time": round(times(arm, reference, case.judged), 3), "best": round(best, 3)}
    if arm.peak is not None and reference.peak:
        found["peak"] = round(arm.peak / reference.peak, 3)
    return found


def all_ratios(results: Results) -> Ratios:
    """Each arm of each case beside the case's reference: what is stored."""
    return {
        case.name: {name: compared(arm, arms[case.reference], case) for name, arm in arms.items()}
        for case, arms in results
    }


def full_result(name: str, settings: Settings, results: Results, judged: Sequence[Verdict]) -> dict[str, Any]:
    """Everything measured, as plain data."""
    cases = []
    for case, arms in results:
        rows = {
            arm: {
                "ratios": compared(measured, arms[case.reference], case),
                "median_seconds": {phase: measured.median(phase) for phase in measured.seconds},
                **({f"{case.unit}_per_second": case.work / measured.median(case.judged)} if case.work else {}),
                "peak_bytes": measured.peak,
                "seconds": measured.seconds,
            }
            for arm, measured in arms.items()
        }
        cases.append({**case.facts, "reference": case.reference, "judged": case.judged, "arms": rows})
    chosen = {key: value for key, value in asdict(settings).items() if key not in ("out", "ratios", "store", "profile")}
    targets = [{**asdict(each), "kept": each.kept} for each in judged]
    return {"benchmark": name, "settings": chosen, "targets": targets, "cases": cases}


def verdicts(targets: Sequence[Target], results: Results) -> list[Verdict]:
    """Each target in the last, largest case of each dtype that it speaks of and whose arms were measured."""
    largest = {case.facts["dtype"]: (case, arms) for case, arms in results}
    found = []
    for target in targets:
        for dtype, limit in target.limits.items():
            if dtype not in largest or not {target.arm, target.peer} <= largest[dtype][1].keys():
                continue
            case, arms = largest[dtype]
            measured = compared(arms[target.arm], arms[target.peer], case).get(target.of)
            who = {"case": case.name, "arm": target.arm, "peer": target.peer, "of": target.of}
            if measured is not None:
                found.append(Verdict(**who, limit=limit, measured=measured))
    return found


def read_stored(path: str | Path) -> dict[str, Any]:
    """Stored ratios by benchmark; nothing if there is no such file."""
    return json.loads(Path(path).read_text(encoding="utf-8")) if Path(path).exists() else {}


def write_json(path: str | Path, content: Any) -> None:
    """Write `content`, in one rename, so that no half of it is ever read."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.partial")
    draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    draft.replace(path)


def moved(now: Ratios, before: Ratios) -> list[str]:
    """A line for each ratio of `now` that differs from that in `before` by more than a tenth of it."""
    lines = []
    for case, arms in now.items():
        for arm, values in arms.items():
            for of, value in values.items():
                old = before.get(case, {}).get(arm, {}).get(of)
                if old and abs(value / old - 1) > MOVED:
                    lines.append(f"{case} · {arm} · {of}: {old:.2f} → {value:.2f} ({100 * (value / old - 1):+.0f} %)")
    return lines
