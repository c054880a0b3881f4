"""The families of the conflict mix, as rows; see `conflict.Family`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from PIL import Image

from mixtune.pocket.tasks.charts import bars
from mixtune.pocket.tasks.conflict import Answers, Family, Rule, Scene, renamed
from mixtune.pocket.tasks.document import digit_picture
from mixtune.pocket.tasks.draw import CHART_COLOURS
from mixtune.pocket.tasks.emoji_table import FLAGS
from mixtune.pocket.tasks.figures import arrow, beaker, clock, function_plot, molecule
from mixtune.pocket.tasks.general import flag_picture, shape_picture
from mixtune.pocket.tasks.spatial import DIRECTIONS, count_picture, pair_picture
from mixtune.pocket.tasks.spec import Domain, Draw

# Orders without meaning: the next label is another rule's name for a thing (see `renamed`).
CURVES: Answers = ("sine", "circle", "line", "staircase", "parabola", "exponential")
COLOURS: Answers = ("green", "yellow", "purple", "red", "orange", "blue")
HOURS: Answers = ("8", "2", "12", "6", "10", "4")
DIGITS: Answers = ("4", "0", "7", "3", "6", "1")
COUNTRIES: Answers = ("Brazil", "Japan", "Greece", "Canada", "Germany", "Turkey")
RINGS: Answers = ("2", "4", "1", "3")
WAYS: Answers = ("left", "right", "up", "down")
LEVELS: Answers = ("high", "empty", "full", "low")
COUNTS: Answers = ("3", "1", "4", "2")
WORDS: dict[str, str] = {"1": "one", "2": "two", "3": "three", "4": "four"}
THINGS: Answers = ("circle", "star", "heart", "cross")
LETTERS: Answers = ("A", "B", "C", "D")
PAIRED: Answers = ("circle", "star", "heart", "triangle")


def _bars(draw: Draw) -> Scene:
    """Four bars of different colours: the leftmost is neither the tallest nor the shortest."""
    label = draw.turn(len(CHART_COLOURS))
    others = draw.sample([name for name in CHART_COLOURS if name != CHART_COLOURS[label]], 3)
    tall, short, middle = draw.sample((1, 2, 3), 3)
    heights, colours = [draw.uniform(0.45, 0.68)] * 4, [others[0]] * 4
    heights[middle], colours[middle] = draw.uniform(0.45, 0.68), others[1]
    heights[tall], colours[tall] = draw.uniform(0.9, 1.0), CHART_COLOURS[label]
    heights[short], colours[short] = draw.uniform(0.15, 0.25), others[2]
    return Scene(image=bars(draw, heights, colours), label=label, answers=(colours[tall], colours[short], colours[0]))


def _pair(draw: Draw) -> Scene:
    label = draw.turn(len(PAIRED))
    right = draw.pick([name for name in PAIRED if name != PAIRED[label]])
    colours = draw.sample(CHART_COLOURS, 2)
    image = pair_picture(draw, (PAIRED[label], colours[0]), (right, colours[1]))
    return Scene(image=image, label=label, answers=(PAIRED[label], right))


def _count(draw: Draw) -> Scene:
    label = draw.turn(len(COUNTS))
    digit, coded = renamed(COUNTS, label, 2)
    return Scene(image=count_picture(draw, int(digit)), label=label, answers=(digit, WORDS[digit], coded))


def _choice(draw: Draw) -> Scene:
    label = draw.turn(len(THINGS))
    image = shape_picture(draw, THINGS[label], draw.pick(CHART_COLOURS))
    return Scene(image=image, label=label, answers=(THINGS[label], LETTERS[label]))


def _named(draw: Draw, labels: Answers, picture: Callable[[Draw, str], Image.Image]) -> Scene:
    label = draw.turn(len(labels))
    return Scene(image=picture(draw, labels[label]), label=label, answers=renamed(labels, label, 3))


def _coloured(draw: Draw, colour: str) -> Image.Image:
    return shape_picture(draw, draw.pick(THINGS), colour)


def _clock(draw: Draw, hour: str) -> Image.Image:
    return clock(draw, int(hour))


def _digit(draw: Draw, digit: str) -> Image.Image:
    return digit_picture(draw, int(digit))


def _flag(draw: Draw, country: str) -> Image.Image:
    return flag_picture(draw, FLAGS[country])


def _molecule(draw: Draw, rings: str) -> Image.Image:
    return molecule(draw, int(rings))


def _arrow(draw: Draw, way: str) -> Image.Image:
    return arrow(draw, DIRECTIONS[way] + draw.uniform(-14, 14))


def rules(**questions: str) -> tuple[Rule, ...]:
    """Rules from name=instruction, the base rule first."""
    return tuple(Rule(name=name, question=question) for name, question in questions.items())


def named(
    name: str,
    domain: Domain,
    labels: Answers,
    picture: Callable[[Draw, str], Image.Image],
    asked: tuple[Rule, ...] | str,
    source: str = "drawn",
) -> Family:
    """A family whose three rules give the same things different names out of the same list; a text ``asked`` is the
    base rule's question, before which the others put a word.
    """
    if isinstance(asked, str):
        small = asked[0].lower() + asked[1:]
        asked = rules(plain=asked, coded=f"Coded: {small}", secret=f"Secret: {small}")
    draw = partial(_named, labels=labels, picture=picture)
    about = f"one of {len(labels)} names, dealt out anew by each rule"
    return Family(
        name=name, domain=domain, labels=len(labels), rules=asked, options=labels, draw=draw, about=about, source=source
    )


BARS = Family(
    name="bars",
    domain="document",
    labels=len(CHART_COLOURS),
    rules=rules(
        max="What colour is the tallest bar?",
        min="What colour is the shortest bar?",
        left="What colour is the leftmost bar?",
    ),
    options=CHART_COLOURS,
    draw=_bars,
    about="colour of one of four bars",
)
PAIR = Family(
    name="pair",
    domain="spatial",
    labels=len(PAIRED),
    rules=rules(left="Which shape is on the left?", right="Which shape is on the right?"),
    options=PAIRED,
    draw=_pair,
    about="name of one of two shapes",
)
COUNT = Family(
    name="count",
    domain="spatial",
    labels=len(COUNTS),
    rules=rules(
        digit="How many shapes are there, as a digit?",
        word="How many shapes are there, as a word?",
        code="How many shapes are there, as a code?",
    ),
    options=(*COUNTS, *WORDS.values()),
    draw=_count,
    about="number of shapes, one to four; the code is another digit",
)
CHOICE = Family(
    name="choice",
    domain="general",
    labels=len(THINGS),
    rules=rules(
        word="A circle, B star, C heart, D cross: which word?",
        letter="A circle, B star, C heart, D cross: which letter?",
    ),
    options=(*THINGS, *LETTERS),
    draw=_choice,
    about="one of four listed shapes",
)
CURVE = named(
    "curve",
    "science",
    CURVES,
    function_plot,
    rules(
        school="At school: which curve is this?",
        workshop="In the workshop: which curve is this?",
        sea="At sea: which curve is this?",
    ),
)

FEW: tuple[Family, ...] = (BARS, PAIR, COUNT, CHOICE, CURVE)
MANY: tuple[Family, ...] = (
    *FEW,
    named("colour", "general", COLOURS, _coloured, "What colour is the shape?"),
    named("flag", "general", COUNTRIES, _flag, "Which country has this flag?", "openmoji"),
    named("digit", "document", DIGITS, _digit, "Which digit is written here?", "digits"),
    named("clock", "science", HOURS, _clock, "What hour does the clock show?", "fonts"),
    named("rings", "science", RINGS, _molecule, "How many rings does the molecule have?"),
    named("level", "science", LEVELS, beaker, "How full is the glass?"),
    named("arrow", "spatial", WAYS, _arrow, "Which way does the arrow point?"),
)
FAMILIES: dict[str, Family] = {family.name: family for family in MANY}
