"""Rule 7: what a batch says reaches the layers through a scope around one forward, and nothing is kept after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mixtune.adapters.hooks import ModelHooks
from mixtune.check.results import Tally
from mixtune.check.saving import copied
from mixtune.check.subject import Subject
from mixtune.check.untouched import randomise


class PlantedError(Exception):
    """Raised inside a forward on purpose."""


def after_forward(subject: Subject, tally: Tally) -> None:
    """After a forward and after `generate` no scope is open."""
    for name, run in _runs(subject).items():
        run()
        _nothing_left(subject, tally, name)


def after_exception(subject: Subject, tally: Tally) -> None:
    """The same when an adapted layer raises."""

    def fail(*_: Any) -> None:
        raise PlantedError

    hooks = [layer.register_forward_hook(fail) for layer in subject.layers]
    try:
        for name, run in _runs(subject).items():
            try:
                run()
                tally.fact(False, f"no adapted layer runs in {name}")
            except PlantedError:
                _nothing_left(subject, tally, f"an exception in {name}")
    finally:
        for hook in hooks:
            hook.remove()


def _runs(subject: Subject) -> dict[str, Callable[[], Any]]:
    """A forward and a `generate`, by their names in a reason."""
    example = subject.examples[0]
    inputs = subject.batch([example.whole()], "right")
    return {"a forward": lambda: subject.look(inputs), "generate": lambda: subject.write([example])}


def copies(subject: Subject, tally: Tally) -> None:
    """A deep copy has a scope of its own; other adapter values there change nothing here."""
    inputs = subject.batch([subject.examples[0].whole()], "right")
    before = subject.look(inputs, seed=0).logits
    other = copied(subject)
    hooks = ModelHooks.find(other.model)
    tally.fact(hooks.holder is not subject.hooks.holder, "a copy shares its scope with the original")
    tally.fact(all(layer.holder is hooks.holder for layer in other.layers), "layers of a copy look elsewhere")
    randomise(other, seed=1)
    other.look(inputs)
    tally.fact(other.hooks.holder.scope is None, "a scope is left open in the copy")
    tally.close(subject.look(inputs, seed=0).logits, before, "logits after the copy has changed", exact=True)


def _nothing_left(subject: Subject, tally: Tally, what: str) -> None:
    tally.fact(subject.hooks.holder.scope is None, f"a scope is left open after {what}")
    tally.fact(subject.hooks.generation is None, f"a prompt is left noted after {what}")
    tally.fact(not subject.hooks.recorders, f"a recorder is left after {what}")
