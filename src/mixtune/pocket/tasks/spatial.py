"""Spatial: counting, positions, sides and directions."""

from __future__ import annotations

from functools import partial

from PIL import Image

from mixtune.pocket.tasks.borrowed import FONTS
from mixtune.pocket.tasks.draw import CHART_COLOURS, SHAPES, Canvas, Point, scatter
from mixtune.pocket.tasks.emoji_table import ARROWS, SEEN_CATEGORIES, emoji_of
from mixtune.pocket.tasks.figures import arrow, die
from mixtune.pocket.tasks.general import emoji_picture
from mixtune.pocket.tasks.spec import Draw, Example, TaskSpec, task

COUNTS: tuple[str, ...] = ("1", "2", "3", "4", "5")
PIPS: tuple[str, ...] = ("1", "2", "3", "4", "5", "6")
PLACES: dict[str, Point] = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1), "middle": (0, 0)}
DIRECTIONS: dict[str, float] = {"up": 0, "right": 90, "down": 180, "left": 270}
SIDE_SHAPES: tuple[str, ...] = ("circle", "rectangle", "triangle", "star", "heart", "cross")
COUNT_QUESTIONS: tuple[str, ...] = ("How many shapes are there?", "How many shapes do you see?", "Count the shapes.")


def count_picture(draw: Draw, count: int) -> Image.Image:
    """``count`` shapes of one kind that do not touch, in one or several colours."""
    canvas = Canvas(draw)
    radius, shape, colour = draw.uniform(24, 32), draw.pick(SHAPES), draw.pick(CHART_COLOURS)
    mixed = draw.pick((True, False))
    for centre in scatter(draw, count, radius):
        canvas.shape(shape, centre, radius, canvas.shade(draw.pick(CHART_COLOURS) if mixed else colour))
    return canvas.finish()


def place_centre(draw: Draw, place: str) -> Point:
    """A point in the named part of the canvas."""
    x, y = PLACES[place]
    return 128 + 72 * x + draw.uniform(-14, 14), 128 + 72 * y + draw.uniform(-14, 14)


def pair_picture(draw: Draw, first: tuple[str, str], second: tuple[str, str], upright: bool = False) -> Image.Image:
    """Two (shape, colour) things side by side, the first on the left; ``upright``: the first above the second."""
    canvas = Canvas(draw)
    for (shape, colour), offset in ((first, -62), (second, 62)):
        along, across = 128 + offset + draw.uniform(-8, 8), 128 + draw.uniform(-45, 45)
        centre = (across, along) if upright else (along, across)
        canvas.shape(shape, centre, draw.uniform(36, 50), canvas.shade(colour))
    return canvas.finish()


def _shape_count(draw: Draw) -> Example:
    count = draw.take_turn(COUNTS)
    return Example(
        image=count_picture(draw, int(count)),
        question=draw.pick(COUNT_QUESTIONS),
        answer=count,
        options=COUNTS,
    )


def _emoji_count(draw: Draw) -> Example:
    count = draw.take_turn(COUNTS)
    char = draw.pick(emoji_of(draw.pick(SEEN_CATEGORIES), draw.part == "test"))
    canvas = Canvas(draw)
    for centre in scatter(draw, int(count), 33):
        canvas.paste(draw.assets.emoji.glyph(char), centre, draw.uniform(58, 68))
    question = draw.pick(("How many emoji are there?", "How many emoji do you see?", "Count the emoji."))
    return Example(image=canvas.finish(), question=question, answer=count, options=COUNTS)


def _die(draw: Draw) -> Example:
    pips = draw.take_turn(PIPS)
    question = draw.pick(("How many dots are on the die?", "Count the dots."))
    return Example(image=die(draw, int(pips)), question=question, answer=pips, options=PIPS)


def _position(draw: Draw, thing: str) -> Example:
    place = draw.take_turn(tuple(PLACES))
    canvas, centre = Canvas(draw), place_centre(draw, place)
    if thing == "shape":
        canvas.shape(draw.pick(SHAPES), centre, draw.uniform(24, 36), canvas.shade(draw.pick(CHART_COLOURS)))
    elif thing == "letter":
        ink = canvas.shade(draw.pick(("red", "green", "blue", "purple", "black")))
        canvas.text(draw.pick("ABCDEFGHKMRST"), centre, int(draw.rng.integers(60, 85)), ink, draw.pick(FONTS[1::2]))
    else:
        char = draw.pick(emoji_of(draw.pick(SEEN_CATEGORIES), draw.part == "test"))
        canvas.paste(draw.assets.emoji.glyph(char), centre, draw.uniform(62, 80))
    question = draw.pick((f"Where is the {thing}?", f"In which part of the picture is the {thing}?"))
    return Example(image=canvas.finish(), question=question, answer=place, options=tuple(PLACES))


def _arrow(draw: Draw) -> Example:
    direction = draw.take_turn(tuple(DIRECTIONS))
    image = arrow(draw, DIRECTIONS[direction] + draw.uniform(-14, 14))
    question = draw.pick(("Which way does the arrow point?", "Where does the arrow point?"))
    return Example(image=image, question=question, answer=direction, options=tuple(DIRECTIONS))


def _arrow_emoji(draw: Draw) -> Example:
    direction = draw.take_turn(tuple(DIRECTIONS))
    image = emoji_picture(draw, ARROWS[direction])
    question = draw.pick(("Which way does the arrow point?", "Where does the arrow point?"))
    return Example(image=image, question=question, answer=direction, options=tuple(DIRECTIONS))


def _side_shape(draw: Draw, sides: tuple[str, str] = ("left", "right")) -> Example:
    shape = draw.take_turn(SIDE_SHAPES)
    other = draw.pick([name for name in SIDE_SHAPES if name != shape])
    side, upright = draw.pick(sides), sides[0] == "top"
    colours = draw.sample(CHART_COLOURS, 2)
    pair = [(shape, colours[0]), (other, colours[1])]
    first, second = pair if side == sides[0] else pair[::-1]
    where = f"at the {side}" if upright else f"on the {side}"
    question = draw.pick((f"Which shape is {where}?", f"What shape is {where}?"))
    return Example(
        image=pair_picture(draw, first, second, upright), question=question, answer=shape, options=SIDE_SHAPES
    )


def _side_colour(draw: Draw) -> Example:
    colour = draw.take_turn(CHART_COLOURS)
    other = draw.pick([name for name in CHART_COLOURS if name != colour])
    side, shapes = draw.pick(("left", "right")), draw.sample(SIDE_SHAPES, 2)
    pair = [(shapes[0], colour), (shapes[1], other)]
    first, second = pair if side == "left" else pair[::-1]
    question = f"What colour is the shape on the {side}?"
    return Example(image=pair_picture(draw, first, second), question=question, answer=colour, options=CHART_COLOURS)


_seen = partial(task, "spatial", "seen")
_unseen = partial(task, "spatial", "unseen")
SPATIAL: tuple[TaskSpec, ...] = (
    _seen("shape_count", "count", _shape_count, "number of equal shapes, one to five"),
    _seen("shape_position", "position", partial(_position, thing="shape"), "where a shape is, of five places"),
    _seen("arrow_direction", "direction", _arrow, "direction of an arrow, of four"),
    _seen("side_shape", "pair", _side_shape, "which shape is on the left or right, of six"),
    _unseen("emoji_count", "count", _emoji_count, "number of equal emoji, one to five", "openmoji"),
    _unseen("die_dots", "count", _die, "dots on a die, one to six"),
    _unseen("emoji_position", "position", partial(_position, thing="emoji"), "where an emoji is", "openmoji"),
    _unseen("letter_position", "position", partial(_position, thing="letter"), "where a letter is", "fonts"),
    _unseen("arrow_emoji", "direction", _arrow_emoji, "direction of an arrow emoji", "openmoji"),
    _unseen("side_colour", "pair", _side_colour, "colour of the left or right shape, of six"),
    _unseen(
        "above_shape",
        "pair",
        partial(_side_shape, sides=("top", "bottom")),
        "which shape is at the top or bottom",
    ),
)
