"""Picture–caption pairs on which the projector is aligned: training emoji and digits, and what seen tasks draw.

Captions never show a test emoji, a test digit, or a kind of drawing that only unseen
tasks use (outlines, plates, lying or hollow bars, loose points, pies, dice, chalk,
plain clocks, coloured emoji, clock and arrow emoji, easy-VQA).
"""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from mixtune.pocket.tasks.captions_charts import CHART_FAMILIES, Captioned, counted
from mixtune.pocket.tasks.draw import CHART_COLOURS, COLOURS, SHAPES, Canvas, scatter
from mixtune.pocket.tasks.emoji_table import CAPTION_FLAGS, CATEGORIES, FLAGS, NEW_FLAGS, OBJECTS, emoji_name, emoji_of
from mixtune.pocket.tasks.general import emoji_picture, flag_picture, shape_picture
from mixtune.pocket.tasks.spatial import PLACES, pair_picture, place_centre
from mixtune.pocket.tasks.spec import Draw, with_article

PROMPTS: tuple[str, ...] = (
    "Describe the picture.",
    "What does the picture show?",
    "What is in the picture?",
    "Write a caption.",
)


def where(place: str) -> str:
    """'in the middle', 'on the left', 'at the top'."""
    return f"{'in' if place == 'middle' else 'on' if place in ('left', 'right') else 'at'} the {place}"


def _emoji(draw: Draw) -> Captioned:
    categories = (*CATEGORIES, "object", "object")
    category = draw.pick(categories)
    char = draw.pick(OBJECTS if category == "object" else emoji_of(category, test=False))
    name = emoji_name(char)
    text = draw.pick(
        (f"emoji of {with_article(name)}, {category}", f"{category}: {name}", f"{name}, a kind of {category}")
    )
    return emoji_picture(draw, char), text


def _emoji_place(draw: Draw) -> Captioned:
    category, place = draw.pick(tuple(CATEGORIES)), draw.pick(tuple(PLACES))
    canvas, char = Canvas(draw), draw.pick(emoji_of(category, test=False))
    canvas.paste(draw.assets.emoji.glyph(char), place_centre(draw, place), draw.uniform(62, 80))
    return canvas.finish(), f"emoji of {with_article(emoji_name(char))} {where(place)}, {category}"


def _emoji_count(draw: Draw) -> Captioned:
    category, count = draw.pick(tuple(CATEGORIES)), int(draw.rng.integers(1, 6))
    canvas, char = Canvas(draw), draw.pick(emoji_of(category, test=False))
    for centre in scatter(draw, count, 33):
        canvas.paste(draw.assets.emoji.glyph(char), centre, draw.uniform(58, 68))
    return canvas.finish(), f"{count} emoji, {category}: {emoji_name(char)}"


def _flag(draw: Draw) -> Captioned:
    countries = {**FLAGS, **NEW_FLAGS, **CAPTION_FLAGS}
    country = draw.pick(tuple(countries))
    text = draw.pick((f"flag of {country}", f"the flag of {country}", f"{country}, a flag"))
    return flag_picture(draw, countries[country]), text


def _shape(draw: Draw) -> Captioned:
    shape, colour = draw.pick(SHAPES), draw.pick(tuple(COLOURS))
    text = draw.pick(
        (f"{with_article(colour)} {shape}", f"a shape: {shape}, colour: {colour}", f"{with_article(shape)} in {colour}")
    )
    return shape_picture(draw, shape, colour), text


def _shape_place(draw: Draw) -> Captioned:
    shape, colour, place = draw.pick(SHAPES), draw.pick(CHART_COLOURS), draw.pick(tuple(PLACES))
    canvas = Canvas(draw)
    canvas.shape(shape, place_centre(draw, place), draw.uniform(24, 36), canvas.shade(colour))
    return canvas.finish(), f"{with_article(colour)} {shape} {where(place)}"


def _shape_count(draw: Draw) -> Captioned:
    count, shape, colour = int(draw.rng.integers(1, 7)), draw.pick(SHAPES), draw.pick(CHART_COLOURS)
    canvas, radius = Canvas(draw), draw.uniform(24, 32)
    for centre in scatter(draw, count, radius):
        canvas.shape(shape, centre, radius, canvas.shade(colour))
    return canvas.finish(), draw.pick(
        (counted(count, f"{colour} {shape}"), f"{count} shapes: {counted(count, f'{colour} {shape}')}")
    )


def _pair(draw: Draw) -> Captioned:
    shapes, colours, upright = draw.sample(SHAPES, 2), draw.sample(CHART_COLOURS, 2), draw.pick((True, False))
    image = pair_picture(draw, (shapes[0], colours[0]), (shapes[1], colours[1]), upright)
    first, second = (f"{with_article(colour)} {shape}" for shape, colour in zip(shapes, colours, strict=True))
    if upright:
        return image, draw.pick(
            (f"{first} above {second}", f"{second} below {first}", f"top: {first}, bottom: {second}")
        )
    return image, draw.pick(
        (f"{first} left of {second}", f"{second} right of {first}", f"left: {first}, right: {second}")
    )


# family → (how to draw one, share of all captions in hundredths)
CAPTION_FAMILIES: dict[str, tuple[Callable[[Draw], Captioned], int]] = {
    "emoji": (_emoji, 20),
    "emoji_place": (_emoji_place, 4),
    "emoji_count": (_emoji_count, 4),
    "flag": (_flag, 8),
    "shape": (_shape, 8),
    "shape_place": (_shape_place, 5),
    "shape_count": (_shape_count, 6),
    "pair": (_pair, 7),
    **CHART_FAMILIES,
}


def caption_family(index: int) -> str:
    """The family of caption ``index``: every hundred captions hold each
    family as often as its share says, interleaved.
    """
    ladder = [name for name, (_, share) in CAPTION_FAMILIES.items() for _ in range(share)]
    return ladder[index * 37 % len(ladder)]


def make_caption(index: int, draw: Draw) -> tuple[Image.Image, str, str]:
    """(picture, prompt, caption) number ``index``, drawn from ``draw``'s generator."""
    image, text = CAPTION_FAMILIES[caption_family(index)][0](draw)
    return image, draw.pick(PROMPTS), text
