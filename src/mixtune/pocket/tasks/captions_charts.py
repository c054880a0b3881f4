"""Captions of the drawings: letters, numbers, digits, charts, clocks, curves, molecules, levels, angles and arrows."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from mixtune.pocket.tasks.borrowed import FONTS
from mixtune.pocket.tasks.charts import TRENDS, bar_heights, bars, printed, trend_line, winner_colours
from mixtune.pocket.tasks.document import INKS, LETTERS, NUMBERS, digit_picture
from mixtune.pocket.tasks.draw import CHART_COLOURS
from mixtune.pocket.tasks.figures import ANGLES, FUNCTIONS, LEVELS, angle, arrow, beaker, clock, function_plot, molecule
from mixtune.pocket.tasks.spatial import DIRECTIONS
from mixtune.pocket.tasks.spec import Draw, with_article

Captioned = tuple[Image.Image, str]
WORDS = "STOP EXIT OPEN TAXI BUS SALE FREE PARK HOTEL CAFE BANK SHOP ZOO BAR POLICE".split()
CURVES: dict[str, str] = {"line": "a straight line", "sine": "a sine wave", "exponential": "an exponential curve"}


def counted(count: int, noun: str) -> str:
    """'1 circle', '3 boxes'."""
    plural = noun + ("es" if noun.endswith(("s", "x")) else "s")
    return f"{count} {noun if count == 1 else plural}"


def _letter(draw: Draw) -> Captioned:
    letter, colour = draw.pick(LETTERS), draw.pick(INKS)
    text = draw.pick(
        (f"the letter {letter}", f"the letter {letter} in {colour}", f"{with_article(colour)} letter {letter}")
    )
    return printed(draw, letter, colour, draw.pick(FONTS)), text


def _number(draw: Draw) -> Captioned:
    number, colour = draw.pick(NUMBERS), draw.pick(INKS)
    text = draw.pick((f"the number {number}", f"the number {number} in {colour}"))
    return printed(draw, number, colour, draw.pick(FONTS)), text


def _word(draw: Draw) -> Captioned:
    word, colour = draw.pick(WORDS), draw.pick(INKS)
    return printed(draw, word, colour, draw.pick(FONTS)), f"the word {word} in {colour}"


def _digit(draw: Draw) -> Captioned:
    label = int(draw.rng.integers(10))
    return digit_picture(draw, label), draw.pick((f"a handwritten {label}", f"the digit {label}, handwritten"))


def _bars(draw: Draw) -> Captioned:
    count = int(draw.rng.integers(2, 7))
    place, colours = winner_colours(draw, count, draw.pick(CHART_COLOURS))
    image = bars(draw, bar_heights(draw, count, place), colours)
    tallest = f"the tallest bar is {colours[place]}"
    return image, draw.pick(
        (f"a bar chart with {count} bars, {tallest}", f"{count} bars: {', '.join(colours)}; {tallest}")
    )


def _trend(draw: Draw) -> Captioned:
    trend = draw.pick(TRENDS)
    return trend_line(draw, trend), draw.pick((f"a line chart, {trend}", f"a {trend} line in a chart"))


def _clock(draw: Draw) -> Captioned:
    hour = int(draw.rng.integers(1, 13))
    return clock(draw, hour), draw.pick((f"a clock showing {hour} o'clock", f"a clock, the hour is {hour}"))


def _function(draw: Draw) -> Captioned:
    kind = draw.pick(FUNCTIONS)
    name = CURVES.get(kind, with_article(kind))
    return function_plot(draw, kind), draw.pick((f"a plot of {name}", f"a plotted curve: {kind}"))


def _molecule(draw: Draw) -> Captioned:
    rings = int(draw.rng.integers(1, 5))
    return molecule(draw, rings), f"a molecule with {counted(rings, 'ring')}"


def _level(draw: Draw) -> Captioned:
    level = draw.pick(tuple(LEVELS))
    return beaker(draw, level), f"a glass, the level is {level}"


def _angle(draw: Draw) -> Captioned:
    kind = draw.pick(ANGLES)
    return angle(draw, kind), f"{with_article(kind)} angle"


def _arrow(draw: Draw) -> Captioned:
    direction = draw.pick(tuple(DIRECTIONS))
    return arrow(draw, DIRECTIONS[direction] + draw.uniform(-14, 14)), f"an arrow that points {direction}"


# family → (how to draw one, share of all captions in hundredths)
CHART_FAMILIES: dict[str, tuple[Callable[[Draw], Captioned], int]] = {
    "letter": (_letter, 7),
    "number": (_number, 7),
    "word": (_word, 1),
    "digit": (_digit, 5),
    "bars": (_bars, 5),
    "trend": (_trend, 2),
    "clock": (_clock, 4),
    "function": (_function, 2),
    "molecule": (_molecule, 1),
    "level": (_level, 2),
    "angle": (_angle, 1),
    "arrow": (_arrow, 1),
}
