"""General recognition: emoji by category, flags, shapes and colours."""

from __future__ import annotations

from functools import partial

from PIL import Image

from mixtune.pocket.tasks.draw import COLOURS, INK, PICTURE, SHAPES, Canvas
from mixtune.pocket.tasks.emoji_table import (
    COLOURED,
    FLAGS,
    NEW_CATEGORIES,
    NEW_FLAGS,
    SEEN_CATEGORIES,
    emoji_name,
    emoji_of,
)
from mixtune.pocket.tasks.spec import Draw, Example, TaskSpec, listed, task, with_article

COLOUR_NAMES: tuple[str, ...] = tuple(COLOURS)
YES_NO: tuple[str, str] = ("yes", "no")
FLAG_QUESTIONS: tuple[str, ...] = (
    "Which country has this flag?",
    "Whose flag is this?",
    "This is the flag of which country?",
)
EASY_COLOURS: tuple[str, ...] = ("red", "green", "blue", "black", "yellow", "gray", "brown")


def emoji_picture(draw: Draw, char: str, black: bool = False, tilt: float = 10) -> Image.Image:
    """One emoji on a tinted ground (white for black strokes), moved, scaled and turned by at most ``tilt`` degrees."""
    canvas = Canvas(draw)
    if black:
        canvas.image.paste((255, 255, 255), (0, 0, *canvas.image.size))
    place = (draw.uniform(112, 144), draw.uniform(112, 144))
    canvas.paste(draw.assets.emoji.glyph(char, black), place, draw.uniform(150, 200), draw.uniform(-tilt, tilt))
    return canvas.finish()


def flag_picture(draw: Draw, code: str) -> Image.Image:
    """One flag, moved, scaled and turned a little."""
    canvas = Canvas(draw)
    place = (draw.uniform(116, 140), draw.uniform(112, 144))
    canvas.paste(draw.assets.emoji.flag(code), place, draw.uniform(170, 212), draw.uniform(-6, 6))
    return canvas.finish()


def shape_picture(draw: Draw, shape: str, colour: str, filled: bool = True) -> Image.Image:
    """One shape somewhere in the picture; as an outline it is black."""
    canvas = Canvas(draw)
    radius = draw.uniform(45, 95)
    low, high = radius + 14, 242 - radius
    ink = canvas.shade(colour) if filled else INK
    canvas.shape(shape, (draw.uniform(low, high), draw.uniform(low, high)), radius, ink, filled=filled)
    return canvas.finish()


def _emoji(draw: Draw, category: str, categories: int = len(SEEN_CATEGORIES)) -> str:
    """An emoji of the category, of which ``categories`` take turns: each emoji comes once before any comes again."""
    return draw.take_turn(emoji_of(category, draw.part == "test"), category, every=categories)


def _category(draw: Draw, black: bool = False) -> Example:
    category = draw.take_turn(SEEN_CATEGORIES)
    question = draw.pick(
        ("What kind of thing is this?", "Which category does this belong to?", "What is shown, in general terms?")
    )
    image = emoji_picture(draw, _emoji(draw, category), black)
    return Example(image=image, question=question, answer=category, options=SEEN_CATEGORIES)


def _category_black(draw: Draw) -> Example:
    return _category(draw, black=True)


def _category_listed(draw: Draw, categories: tuple[str, ...] = SEEN_CATEGORIES) -> Example:
    category = draw.take_turn(categories)
    options = draw.options(category, categories, 4)
    question = f"Which kind of thing is this: {listed(options)}?"
    image = emoji_picture(draw, _emoji(draw, category, len(categories)))
    return Example(image=image, question=question, answer=category, options=options)


def _category_yes_no(draw: Draw) -> Example:
    answer, category = draw.take_turn(YES_NO), draw.take_turn(SEEN_CATEGORIES, "category")
    shown = category if answer == "yes" else draw.pick([name for name in SEEN_CATEGORIES if name != category])
    noun = category if category in ("food", "clothing") else with_article(category)
    return Example(
        image=emoji_picture(draw, draw.pick(emoji_of(shown, draw.part == "test"))),
        question=f"Is this {noun}?",
        answer=answer,
        options=YES_NO,
    )


def _short_names(category: str, test: bool) -> dict[str, str]:
    names = {emoji_name(char): char for char in emoji_of(category, test)}
    return {name: char for name, char in names.items() if len(name.split()) <= 2}


def _emoji_choice(draw: Draw) -> Example:
    category = draw.take_turn(SEEN_CATEGORIES)
    others = draw.sample([name for name in SEEN_CATEGORIES if name != category], 3)
    test = draw.part == "test"
    names = _short_names(category, test)
    answer = draw.take_turn(list(names), category, every=len(SEEN_CATEGORIES))
    wrong = [draw.pick(list(_short_names(other, test))) for other in others]
    options = tuple(draw.sample([answer, *wrong], 4))
    question = f"Which is it: {listed(options)}?"
    return Example(image=emoji_picture(draw, names[answer]), question=question, answer=answer, options=options)


def _flag(draw: Draw) -> Example:
    country = draw.take_turn(tuple(FLAGS))
    question = draw.pick(FLAG_QUESTIONS)
    return Example(image=flag_picture(draw, FLAGS[country]), question=question, answer=country, options=tuple(FLAGS))


def _flag_listed(draw: Draw) -> Example:
    country = draw.take_turn(tuple(FLAGS))
    options = draw.options(country, tuple(FLAGS), 4)
    question = f"Is this the flag of {listed(options)}?"
    return Example(image=flag_picture(draw, FLAGS[country]), question=question, answer=country, options=options)


def _flag_new(draw: Draw) -> Example:
    country = draw.take_turn(tuple(NEW_FLAGS))
    question = draw.pick(FLAG_QUESTIONS)
    return Example(
        image=flag_picture(draw, NEW_FLAGS[country]),
        question=question,
        answer=country,
        options=tuple(NEW_FLAGS),
    )


def _shape_name(draw: Draw, filled: bool = True) -> Example:
    shape = draw.take_turn(SHAPES)
    question = draw.pick(("What shape is this?", "Which shape is in the picture?", "Name the shape."))
    image = shape_picture(draw, shape, draw.pick(COLOUR_NAMES), filled)
    return Example(image=image, question=question, answer=shape, options=SHAPES)


def _shape_outline(draw: Draw) -> Example:
    return _shape_name(draw, filled=False)


def _shape_colour(draw: Draw) -> Example:
    colour = draw.take_turn(COLOUR_NAMES)
    shape = draw.pick(SHAPES)
    question = draw.pick(
        ("What colour is the shape?", f"What colour is the {shape}?", "Which colour does the shape have?")
    )
    return Example(image=shape_picture(draw, shape, colour), question=question, answer=colour, options=COLOUR_NAMES)


def _shape_yes_no(draw: Draw) -> Example:
    answer, shape = draw.take_turn(YES_NO), draw.take_turn(SHAPES, "shape")
    shown = shape if answer == "yes" else draw.pick([name for name in SHAPES if name != shape])
    image = shape_picture(draw, shown, draw.pick(COLOUR_NAMES))
    return Example(image=image, question=f"Is this {with_article(shape)}?", answer=answer, options=YES_NO)


def _colour_yes_no(draw: Draw) -> Example:
    answer, colour = draw.take_turn(YES_NO), draw.take_turn(COLOUR_NAMES, "colour")
    shown = colour if answer == "yes" else draw.pick([name for name in COLOUR_NAMES if name != colour])
    image = shape_picture(draw, draw.pick(SHAPES), shown)
    return Example(image=image, question=f"Is the shape {colour}?", answer=answer, options=YES_NO)


def _emoji_colour(draw: Draw) -> Example:
    colour = draw.take_turn(tuple(COLOURED))
    number = int(draw.rng.integers(3))
    noun = ("heart", "circle", "square")[number]
    image = emoji_picture(draw, COLOURED[colour][number])
    return Example(image=image, question=f"What colour is the {noun}?", answer=colour, options=tuple(COLOURED))


def _easy_vqa(draw: Draw, asked: tuple[str, ...], options: tuple[str, ...], questions: tuple[str, ...]) -> Example:
    """A picture of easy-VQA, of its test part when ours is, whose answer to one of ``asked`` has its turn."""
    part, answer = ("test" if draw.part == "test" else "train"), draw.take_turn(options)
    rows = [number for question, reply, number in draw.assets.easy_vqa(part) if question in asked and reply == answer]
    image = draw.assets.easy_vqa_picture(part, draw.take_turn(rows, answer, every=len(options))).resize(
        (PICTURE, PICTURE), Image.Resampling.BICUBIC
    )
    return Example(image=image, question=draw.pick(questions), answer=answer, options=options)


def _easy_vqa_colour(draw: Draw) -> Example:
    asked = ("what color is the shape?", "what is the color of the shape?")
    return _easy_vqa(draw, asked, EASY_COLOURS, ("What colour is the shape?", "Which colour does the shape have?"))


def _easy_vqa_shape(draw: Draw) -> Example:
    asked = ("what shape is in the image?", "what shape is present?", "what shape does the image contain?")
    return _easy_vqa(draw, asked, ("circle", "rectangle", "triangle"), ("Which shape is in the picture?",))


_seen = partial(task, "general", "seen")
_unseen = partial(task, "general", "unseen")
GENERAL: tuple[TaskSpec, ...] = (
    _seen("emoji_category", "emoji", _category, "kind of thing an emoji shows, of eight", "openmoji"),
    _seen("emoji_choice", "emoji", _emoji_choice, "name of an emoji, four listed", "openmoji"),
    _seen("flag_country", "flag", _flag, "country of a flag, of ten", "openmoji"),
    _seen("shape_name", "shape", _shape_name, "name of a filled shape, of eight"),
    _seen("shape_colour", "shape", _shape_colour, "colour of a shape, of ten"),
    _seen("shape_yes_no", "shape", _shape_yes_no, "is it the named shape"),
    _unseen("category_listed", "emoji", _category_listed, "kind of thing, four of the eight listed", "openmoji"),
    _unseen("category_black", "emoji", _category_black, "kind of thing in black strokes only", "openmoji"),
    _unseen(
        "category_new",
        "emoji",
        partial(_category_listed, categories=NEW_CATEGORIES),
        "kind of thing, four new kinds listed",
        "openmoji",
    ),
    _unseen("category_yes_no", "emoji", _category_yes_no, "is it of the named kind", "openmoji"),
    _unseen("flag_listed", "flag", _flag_listed, "country of a flag, four listed", "openmoji"),
    _unseen("flag_new", "flag", _flag_new, "country of a flag, ten other countries", "openmoji"),
    _unseen("shape_outline", "shape", _shape_outline, "name of a shape drawn as a black outline"),
    _unseen("colour_yes_no", "shape", _colour_yes_no, "is the shape of the named colour"),
    _unseen("emoji_colour", "emoji", _emoji_colour, "colour of a heart, circle or square emoji", "openmoji"),
    _unseen("easy_vqa_colour", "easy-vqa", _easy_vqa_colour, "colour of a small shape in easy-VQA", "easy-vqa"),
    _unseen("easy_vqa_shape", "easy-vqa", _easy_vqa_shape, "name of a small shape in easy-VQA", "easy-vqa"),
)
