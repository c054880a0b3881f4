"""Documents and charts: letters, numbers, digits, bars, pies and trend lines."""

from __future__ import annotations

import string
from functools import partial

import numpy as np
from PIL import Image

from mixtune.pocket.tasks.borrowed import FONTS, OTHER_FONTS
from mixtune.pocket.tasks.charts import (
    TRENDS,
    bar_heights,
    bars,
    pie,
    plate,
    printed,
    trend_bars,
    trend_line,
    winner_colours,
)
from mixtune.pocket.tasks.draw import CHART_COLOURS, COLOURS, PICTURE
from mixtune.pocket.tasks.spec import Draw, Example, TaskSpec, task

LETTERS: tuple[str, ...] = tuple(string.ascii_uppercase)
NUMBERS: tuple[str, ...] = tuple(str(number) for number in range(10, 100))
DIGITS: tuple[str, ...] = tuple(string.digits)
INKS: tuple[str, ...] = ("red", "green", "blue", "purple", "brown", "black")
GROUNDS: tuple[str, ...] = ("red", "green", "blue", "purple", "brown", "black")
BAR_COUNTS: tuple[str, ...] = ("2", "3", "4", "5", "6")


def digit_picture(draw: Draw, label: int) -> Image.Image:
    """A real handwritten digit, enlarged from 8 × 8, in a dark ink on light paper."""
    ink = draw.assets.digit(label, draw.part == "test", draw.uniform(0, 1)) / 16.0
    size = int(draw.rng.integers(92, 122))
    strength = Image.fromarray(np.uint8(255 * ink)).resize((size * 4 // 5, size), Image.Resampling.BICUBIC)
    paper = tuple(int(v) for v in draw.rng.integers(228, 256, 3))
    image = Image.new("RGB", (PICTURE, PICTURE), paper)
    x, y = ((PICTURE - side) // 2 + int(draw.rng.integers(-6, 7)) for side in strength.size)
    image.paste(COLOURS[draw.pick(("black", "blue", "brown"))], (x, y), strength)
    return image


def _letter(draw: Draw) -> Example:
    letter = draw.take_turn(LETTERS)
    question = draw.pick(("Which letter is this?", "What letter do you see?", "Read the letter."))
    image = printed(draw, letter, draw.pick(INKS), draw.pick(FONTS))
    return Example(image=image, question=question, answer=letter, options=draw.options(letter, LETTERS, 8))


def _letter_colour(draw: Draw) -> Example:
    colour = draw.take_turn(tuple(COLOURS))
    image = printed(draw, draw.pick(LETTERS), colour, draw.pick(FONTS[1::2]))
    return Example(image=image, question="What colour is the letter?", answer=colour, options=tuple(COLOURS))


def _letter_plate(draw: Draw) -> Example:
    letter = draw.take_turn(LETTERS)
    image = plate(draw, letter, draw.pick(GROUNDS), draw.pick(OTHER_FONTS))
    options = draw.options(letter, LETTERS, 8)
    return Example(image=image, question="Which letter is on the sign?", answer=letter, options=options)


def _number(draw: Draw) -> Example:
    number = draw.pick(NUMBERS)
    question = draw.pick(("Which number is this?", "What number do you see?", "Read the number."))
    image = printed(draw, number, draw.pick(INKS), draw.pick(FONTS))
    return Example(image=image, question=question, answer=number, options=draw.options(number, NUMBERS, 8))


def _number_plate(draw: Draw) -> Example:
    number = draw.pick(NUMBERS)
    image = plate(draw, number, draw.pick(GROUNDS), draw.pick(OTHER_FONTS))
    options = draw.options(number, NUMBERS, 8)
    return Example(image=image, question="Which number is on the sign?", answer=number, options=options)


def _digit(draw: Draw) -> Example:
    digit = draw.take_turn(DIGITS)
    question = draw.pick(("Which digit is written here?", "What digit is this?", "Read the handwritten digit."))
    return Example(image=digit_picture(draw, int(digit)), question=question, answer=digit, options=DIGITS)


def _digit_printed(draw: Draw) -> Example:
    digit = draw.take_turn(DIGITS)
    image = printed(draw, digit, draw.pick(INKS), draw.pick(OTHER_FONTS))
    return Example(image=image, question="Which digit is printed here?", answer=digit, options=DIGITS)


def _tallest(draw: Draw, sideways: bool = False) -> Example:
    colour, count = draw.take_turn(CHART_COLOURS), int(draw.rng.integers(3, 6))
    place, colours = winner_colours(draw, count, colour)
    image = bars(draw, bar_heights(draw, count, place), colours, sideways=sideways)
    word = "longest" if sideways else "tallest"
    question = draw.pick((f"What colour is the {word} bar?", f"Which colour is the {word} bar?"))
    return Example(image=image, question=question, answer=colour, options=CHART_COLOURS)


def _bar_count(draw: Draw, hollow: bool = False) -> Example:
    count = draw.take_turn(BAR_COUNTS)
    colours = (
        draw.sample(CHART_COLOURS, int(count)) if draw.pick((True, False)) else [draw.pick(CHART_COLOURS)] * int(count)
    )
    image = bars(draw, [draw.uniform(0.25, 1.0) for _ in range(int(count))], colours, hollow=hollow)
    question = draw.pick(("How many bars are there?", "How many bars does the chart have?", "Count the bars."))
    return Example(image=image, question=question, answer=count, options=BAR_COUNTS)


def _pie_largest(draw: Draw) -> Example:
    colour, count = draw.take_turn(CHART_COLOURS), int(draw.rng.integers(3, 5))
    place, colours = winner_colours(draw, count, colour)
    weights = [draw.uniform(0.5, 1.0) for _ in range(count)]
    weights[place] = 2.0 * max(weights)
    shares = [weight / sum(weights) for weight in weights]
    question = "What colour is the largest slice?"
    return Example(image=pie(draw, shares, colours), question=question, answer=colour, options=CHART_COLOURS)


def _trend(draw: Draw) -> Example:
    trend = draw.take_turn(TRENDS)
    question = draw.pick(("Is the line rising, falling or flat?", "What is the trend: rising, falling or flat?"))
    return Example(image=trend_line(draw, trend), question=question, answer=trend, options=TRENDS)


def _trend_points(draw: Draw) -> Example:
    trend = draw.take_turn(TRENDS)
    question = "Are the points rising, falling or flat?"
    return Example(image=trend_line(draw, trend, points_only=True), question=question, answer=trend, options=TRENDS)


def _trend_bars(draw: Draw) -> Example:
    trend = draw.take_turn(TRENDS)
    question = "Are the bars rising, falling or flat?"
    return Example(image=trend_bars(draw, trend), question=question, answer=trend, options=TRENDS)


_seen = partial(task, "document", "seen")
_unseen = partial(task, "document", "unseen")
DOCUMENT: tuple[TaskSpec, ...] = (
    _seen("letter", "letter", _letter, "printed capital letter, ranked among eight", "fonts"),
    _seen("number", "number", _number, "printed two-digit number, ranked among eight", "fonts"),
    _seen("digit_handwritten", "digit", _digit, "handwritten digit", "digits"),
    _seen("tallest_bar", "bars", _tallest, "colour of the tallest of three to five bars"),
    _seen("bar_count", "bars", _bar_count, "number of bars, two to six"),
    _seen("trend", "line chart", _trend, "does a line rise, fall or stay flat"),
    _unseen("letter_colour", "letter", _letter_colour, "colour of a letter, of ten", "fonts"),
    _unseen("letter_plate", "plate", _letter_plate, "white letter on a sign, other fonts", "fonts"),
    _unseen("number_plate", "plate", _number_plate, "white number on a sign, other fonts", "fonts"),
    _unseen("digit_printed", "digit", _digit_printed, "printed digit, other fonts", "fonts"),
    _unseen("longest_bar", "bars", partial(_tallest, sideways=True), "colour of the longest lying bar"),
    _unseen("bar_count_hollow", "bars", partial(_bar_count, hollow=True), "number of bars drawn as outlines"),
    _unseen("pie_largest", "pie", _pie_largest, "colour of the largest slice"),
    _unseen("trend_points", "line chart", _trend_points, "do loose points rise or fall"),
    _unseen("trend_bars", "bars", _trend_bars, "do the bars rise, fall or stay flat"),
)
