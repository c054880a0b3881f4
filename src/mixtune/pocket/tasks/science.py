"""Science: clocks, plotted functions, ring molecules, levels and angles."""

from __future__ import annotations

from functools import partial

from mixtune.pocket.tasks.emoji_table import CLOCKS
from mixtune.pocket.tasks.figures import (
    ANGLES,
    FUNCTIONS,
    LEVELS,
    angle,
    battery,
    beaker,
    clock,
    function_plot,
    molecule,
)
from mixtune.pocket.tasks.general import YES_NO, emoji_picture
from mixtune.pocket.tasks.spec import Draw, Example, TaskSpec, task, with_article

HOURS: tuple[str, ...] = tuple(str(hour) for hour in range(1, 13))
RINGS: tuple[str, ...] = ("1", "2", "3", "4")


def _clock(draw: Draw, plain: bool = False) -> Example:
    hour = draw.take_turn(HOURS)
    question = draw.pick(("What hour does the clock show?", "Which hour is it?", "What time is it, in full hours?"))
    image = clock(draw, int(hour), plain)
    return Example(image=image, question=question, answer=hour, options=draw.options(hour, HOURS, 8))


def _clock_emoji(draw: Draw) -> Example:
    hour = draw.take_turn(HOURS)
    image = emoji_picture(draw, CLOCKS[int(hour) - 1], tilt=3)
    options = draw.options(hour, HOURS, 8)
    return Example(image=image, question="What hour does the clock show?", answer=hour, options=options)


def _function(draw: Draw, chalk: bool = False) -> Example:
    kind = draw.take_turn(FUNCTIONS)
    question = draw.pick(("What kind of curve is plotted?", "Which curve is drawn?", "Name the plotted curve."))
    return Example(image=function_plot(draw, kind, chalk), question=question, answer=kind, options=FUNCTIONS)


def _function_yes_no(draw: Draw) -> Example:
    answer, kind = draw.take_turn(YES_NO), draw.take_turn(FUNCTIONS, "kind")
    shown = kind if answer == "yes" else draw.pick([name for name in FUNCTIONS if name != kind])
    return Example(
        image=function_plot(draw, shown),
        question=f"Is this curve {with_article(kind)}?",
        answer=answer,
        options=YES_NO,
    )


def _rings(draw: Draw, dark: bool = False) -> Example:
    rings = draw.take_turn(RINGS)
    question = draw.pick(("How many rings does the molecule have?", "How many rings are there?", "Count the rings."))
    return Example(image=molecule(draw, int(rings), dark), question=question, answer=rings, options=RINGS)


def _beaker(draw: Draw) -> Example:
    level = draw.take_turn(tuple(LEVELS))
    question = draw.pick(("How full is the glass?", "What is the level in the glass?", "How much is in the glass?"))
    return Example(image=beaker(draw, level), question=question, answer=level, options=tuple(LEVELS))


def _battery(draw: Draw) -> Example:
    level = draw.take_turn(tuple(LEVELS))
    question = draw.pick(("How full is the battery?", "What is the level of the battery?"))
    return Example(image=battery(draw, level), question=question, answer=level, options=tuple(LEVELS))


def _angle(draw: Draw) -> Example:
    kind = draw.take_turn(ANGLES)
    question = draw.pick(("What kind of angle is this?", "Is the angle acute, right or obtuse?"))
    return Example(image=angle(draw, kind), question=question, answer=kind, options=ANGLES)


_seen = partial(task, "science", "seen")
_unseen = partial(task, "science", "unseen")
SCIENCE: tuple[TaskSpec, ...] = (
    _seen("clock_hour", "clock", _clock, "full hour on a round clock, ranked among eight", "fonts"),
    _seen("function_kind", "function", _function, "kind of a plotted curve, of six"),
    _seen("ring_count", "molecule", _rings, "rings of a skeletal formula, one to four"),
    _seen("glass_level", "level", _beaker, "how full a glass is, of five"),
    _seen("angle_kind", "angle", _angle, "acute, right or obtuse"),
    _unseen("clock_emoji", "clock", _clock_emoji, "full hour on a clock emoji", "openmoji"),
    _unseen("clock_plain", "clock", partial(_clock, plain=True), "hour on a square clock without numerals"),
    _unseen("function_chalk", "function", partial(_function, chalk=True), "kind of a curve dotted on a dark board"),
    _unseen("function_yes_no", "function", _function_yes_no, "is it the named curve"),
    _unseen("ring_count_dark", "molecule", partial(_rings, dark=True), "rings in the other notation, light on dark"),
    _unseen("battery_level", "level", _battery, "how full a battery of four cells is"),
)
