"""The seven rules of routing as checks, in the order they are run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import nn

from mixtune.check import decoding, learning, leftovers, prompt, saving, strangers
from mixtune.check.examples import Example, NotApplicableError
from mixtune.check.results import RuleResult, Tally
from mixtune.check.subject import Subject
from mixtune.check.untouched import is_fresh, nudged, randomise, untouched, values_kept

RULES = (
    "0 worth checking",
    "1 prompt only",
    "2 same in training and generation",
    "3 nobody else matters",
    "4 chosen once per forward",
    "5 routers learn",
    "6 fresh, disabled, saved",
    "7 no globals",
)
TRIES = 2  # with changed routers, before a fault counts as a tie


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check of rule number `rule`.

    run: compares and notes in a Tally; raises NotApplicableError. by_bare: where the model without its mixture fails
    the check too, it says nothing about the mixture.
    """

    rule: int
    name: str
    run: Callable[[Subject, Tally], None]
    by_bare: bool = True


def selections_differ(subject: Subject, tally: Tally) -> None:
    """The examples are routed apart; otherwise most of the checks below could not fail."""
    if not any(plan.mixed for _, plan in subject.plans):
        raise NotApplicableError("nothing is routed")
    if subject.randomised:
        tally.note = "with random values, since those of the adapter itself change next to nothing"
    routed = [subject.look(subject.batch([each.prompt()], "right", labels=False)).routed for each in subject.examples]
    first = routed[0]
    for other in routed[1:]:
        for name in first.keys() & other.keys():
            # Of tokens those at the ends of the prompts are compared. Dense mixtures differ in gates only.
            one, two = first[name], other[name]
            for here, there in ((one.indices_a, two.indices_a), (one.gates, two.gates)):
                here, there = here.flatten(0, -2), there.flatten(0, -2)
                ends = min(len(here), len(there))
                if not torch.equal(here[-ends:], there[-ends:]):
                    return
    raise NotApplicableError(
        "all examples are routed alike, so the checks prove little: give examples that differ more"
    )


CHECKS = (
    Check(rule=0, name="selections differ", run=selections_differ),
    Check(rule=1, name="other answer tokens", run=prompt.other_answers),
    Check(rule=1, name="other tokens under padding", run=prompt.other_padding),
    Check(rule=2, name="training mode = evaluation mode", run=decoding.training_mode),
    Check(rule=2, name="step by step = teacher forcing", run=decoding.step_by_step),
    Check(rule=2, name="generate = teacher forcing", run=decoding.greedy),
    Check(rule=2, name="use_cache=False", run=decoding.without_cache),
    Check(rule=2, name="static cache", run=decoding.static_cache),
    Check(rule=2, name="beams", run=decoding.beams),
    Check(rule=2, name="num_return_sequences", run=decoding.returned_sequences),
    Check(rule=2, name="prompt lookup", run=decoding.assisted),
    Check(rule=2, name="continued chat", run=decoding.continued_chat),
    Check(rule=2, name="cache repeated, reordered, selected", run=decoding.moved_cache),
    Check(rule=3, name="alone = in a batch padded left", run=strangers.padded_left),
    Check(rule=3, name="alone = in a batch padded right", run=strangers.padded_right),
    Check(rule=3, name="generate alone = in a batch", run=strangers.generated),
    Check(rule=3, name="packed = separate", run=strangers.packed),
    Check(rule=4, name="activation checkpointing", run=learning.recomputed, by_bare=False),
    Check(rule=4, name="activation checkpointing, reentrant", run=learning.recomputed_reentrant, by_bare=False),
    Check(rule=5, name="every router has a gradient", run=learning.routers_learn, by_bare=False),
    Check(rule=6, name="fresh = base", run=saving.fresh, by_bare=False),
    Check(rule=6, name="disabled = base", run=saving.disabled, by_bare=False),
    Check(rule=6, name="saved and loaded = same bits", run=saving.saved, by_bare=False),
    Check(rule=7, name="after a forward and generate", run=leftovers.after_forward, by_bare=False),
    Check(rule=7, name="after an exception", run=leftovers.after_exception, by_bare=False),
    Check(rule=7, name="copies share nothing", run=leftovers.copies, by_bare=False),
)


def check_rules(
    model: nn.Module,
    examples: Sequence[Example],
    *,
    tolerance: float = 1e-5,
    pad_token_id: int = 0,
    randomised: bool | None = None,
    progress: Callable[[RuleResult], None] | None = None,
) -> list[RuleResult]:
    """Run every check of the seven rules on a model that carries a mixture; the model is left exactly as it was.

    A value may differ from the expected one by tolerance·(1 + |expected|); 2e-2 suits bfloat16. randomised: check with
    random adapter values (put back afterwards); None does so where the adapter changes next to nothing, as a fresh one
    does. progress is called with each result as it comes.

    An exception of a check is a broken rule, unless the bare model fails that check too. What is broken for some
    weights of the routers only is a tie of two choices, noted but kept. Raises ValueError if the model carries no
    mixture that is switched on, or if there are no examples or they have different tensors.
    """
    if not examples:
        raise ValueError("examples: none given; two of different lengths are the least that says something")
    if len({frozenset(each.per_token) for each in examples}) > 1:
        raise ValueError("examples: all must have the same tensors with one entry a token")
    subject = Subject(model, examples, tolerance, pad_token_id)
    if not subject.plans or any(layer._disable_adapters for layer in subject.layers):
        raise ValueError(f"{type(model).__name__}: its adapter is not active; enable it before checking")
    results = []
    with untouched(subject), ExitStack() as stack:
        subject.randomised = is_fresh(subject) if randomised is None else randomised
        if subject.randomised:
            stack.enter_context(values_kept(list(subject.parameters.values())))
            randomise(subject)
        for check in CHECKS:
            results.append(run_check(check, subject))
            if progress is not None:
                progress(results[-1])
    return results


def run_check(check: Check, subject: Subject) -> RuleResult:
    """The result of one check; see `check_rules`."""
    rule = RULES[check.rule]
    try:
        tally = _attempt(check, subject)
        if tally.faults and check.by_bare:
            with subject.bare():
                bare = _attempt(check, subject)
            if bare.faults:
                raise NotApplicableError(f"the model without its mixture breaks it too: {bare.reason}")
            tally = _but_for_ties(check, subject, tally)
    except NotApplicableError as error:
        return RuleResult(rule=rule, check=check.name, kept=None, tolerance=subject.tolerance, reason=str(error))
    return RuleResult(
        rule=rule,
        check=check.name,
        kept=not tally.faults,
        difference=tally.difference,
        tolerance=0.0 if tally.exact else subject.tolerance,
        reason=tally.reason,
    )


def _but_for_ties(check: Check, subject: Subject, first: Tally) -> Tally:
    """A tally without fault, if with routers slightly changed every try holds; otherwise `first`, which has faults.

    Rounding differs between batches and decides between two choices that tie: rare, and with slightly different routers
    it is not the same two again. A fault is there whatever the routers' weights are.
    """
    if not any(plan.mixed for _, plan in subject.plans):
        return first
    again = first
    for seed in range(TRIES):
        with nudged(subject, seed):
            again = _attempt(check, subject)
        if again.faults:
            return first
    again.note = f"two choices tie, and rounding decides ({first.reason}); with routers slightly changed it holds"
    return again


def _attempt(check: Check, subject: Subject) -> Tally:
    tally = Tally(subject.tolerance)
    try:
        check.run(subject, tally)
    except (NotApplicableError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a check of the user's model raises is what that check found
        lines = str(error).strip().splitlines() or [""]
        tally.fact(False, f"{type(error).__name__}: {lines[0]}")
    return tally
