"""Drawing helpers: a canvas twice as large as the picture, named colours, simple shapes, text and pasted emoji.

All coordinates are pixels of the 256 × 256 canvas; ``Canvas.finish`` halves it, which smooths every edge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

from PIL import Image, ImageDraw

from mixtune.pocket.tasks.borrowed import letter_font
from mixtune.pocket.tasks.spec import Draw

PICTURE = 128
SIDE = 2 * PICTURE
MIDDLE = SIDE // 2

Colour: TypeAlias = tuple[int, int, int]
Point: TypeAlias = tuple[float, float]

COLOURS: dict[str, Colour] = {
    "red": (220, 35, 35),
    "orange": (245, 140, 20),
    "yellow": (250, 220, 30),
    "green": (40, 160, 60),
    "blue": (35, 80, 215),
    "purple": (130, 50, 165),
    "pink": (250, 140, 185),
    "brown": (125, 75, 35),
    "gray": (130, 130, 130),
    "black": (15, 15, 15),
}
CHART_COLOURS: tuple[str, ...] = ("red", "orange", "yellow", "green", "blue", "purple")
SHAPES: tuple[str, ...] = ("circle", "rectangle", "triangle", "star", "heart", "diamond", "cross", "hexagon")
INK: Colour = (20, 20, 20)


class Canvas:
    """A 256 × 256 drawing surface with a light (or, for ``dark``, deep) tinted ground drawn from ``draw.rng``."""

    def __init__(self, draw: Draw, dark: bool = False) -> None:
        self.draw = draw
        low, high = (10, 60) if dark else (228, 256)
        red, green, blue = (int(v) for v in draw.rng.integers(low, high, 3))
        self.ground: Colour = (red, green, blue)
        self.image = Image.new("RGB", (SIDE, SIDE), self.ground)
        self.pen = ImageDraw.Draw(self.image)

    def finish(self) -> Image.Image:
        """The 128 × 128 picture."""
        return self.image.reduce(2)

    def shade(self, name: str, spread: int = 14) -> Colour:
        """A named colour, each channel moved at random by at most ``spread``."""
        return shaded(self.draw, name, spread)

    def line(self, points: Sequence[Point], colour: Colour, width: int = 6) -> None:
        """A line through the points with rounded joints and ends."""
        self.pen.line(list(points), fill=colour, width=width, joint="curve")
        for x, y in (points[0], points[-1]):
            self.dot(x, y, width / 2 - 0.5, colour)

    def dot(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """A filled disc."""
        self.pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

    def shape(self, name: str, centre: Point, radius: float, colour: Colour, *, filled: bool = True) -> None:
        """One of ``SHAPES``, slightly turned; when not ``filled``, only its outline."""
        points = shape_points(name, centre, radius, self.draw)
        if filled:
            self.pen.polygon(points, fill=colour)
        else:
            self.line([*points, points[0], points[1]], colour, 7)

    def text(self, text: str, centre: Point, size: int, colour: Colour, font: str) -> None:
        """Text centred on its ink."""
        face = letter_font(font, size)
        left, top, right, bottom = face.getbbox(text)
        self.pen.text((centre[0] - (left + right) / 2, centre[1] - (top + bottom) / 2), text, font=face, fill=colour)

    def paste(self, picture: Image.Image, centre: Point, width: float, turn: float = 0.0) -> None:
        """An RGBA picture scaled so that its longer side is ``width`` and turned by ``turn`` degrees."""
        scale = width / max(picture.size)
        small = picture.resize(
            (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))),
            Image.Resampling.BILINEAR,
        )
        if turn:
            small = small.rotate(turn, Image.Resampling.BILINEAR, expand=True)
        self.image.paste(small, (round(centre[0] - small.width / 2), round(centre[1] - small.height / 2)), small)


def shaded(draw: Draw, name: str, spread: int = 14) -> Colour:
    """The named colour of ``COLOURS`` with each channel moved at random by at most ``spread``."""
    red, green, blue = (min(255, max(0, base + int(draw.rng.integers(-spread, spread + 1)))) for base in COLOURS[name])
    return red, green, blue


def polar(centre: Point, radius: float, degrees: float) -> Point:
    """The point at ``radius`` from ``centre`` in the direction ``degrees`` clockwise from the top."""
    angle = math.radians(degrees)
    return centre[0] + radius * math.sin(angle), centre[1] - radius * math.cos(angle)


def _star(index: int) -> float:
    return 1.0 if index % 2 == 0 else 0.42


def _unit_shape(name: str, aspect: float) -> list[Point]:
    """The outline of a shape around the origin in a circle of radius about 1."""
    if name == "circle":
        return [polar((0, 0), 0.9, 6.0 * k) for k in range(60)]
    if name == "rectangle":
        return [(-aspect, -0.85), (aspect, -0.85), (aspect, 0.85), (-aspect, 0.85)]
    if name == "triangle":
        return [polar((0, 0.15), 1.05, 120.0 * k) for k in range(3)]
    if name == "hexagon":
        return [polar((0, 0), 0.98, 60.0 * k + 30) for k in range(6)]
    if name == "star":
        return [polar((0, 0.05), 1.1 * _star(k), 36.0 * k) for k in range(10)]
    if name == "diamond":
        return [(0, -1.1), (0.72, 0), (0, 1.1), (-0.72, 0)]
    if name == "cross":
        arm = 0.34
        return [(-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm),
                (arm, 1), (-arm, 1), (-arm, arm), (-1, arm), (-1, -arm), (-arm, -arm)]  # fmt: skip
    angles = [math.tau * k / 48 for k in range(48)]  # the heart curve
    return [
        (math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16)
        for t in angles
    ]


def shape_points(name: str, centre: Point, radius: float, draw: Draw) -> list[Point]:
    """The outline of one of ``SHAPES`` at ``centre``, turned by at most
    8 degrees. Rectangles vary in their proportions.
    """
    aspect = draw.pick((0.5, 0.62, 0.85))
    angle = math.radians(draw.uniform(-8, 8))
    cos, sin = math.cos(angle), math.sin(angle)
    turned = [(x * cos - y * sin, x * sin + y * cos) for x, y in _unit_shape(name, aspect)]
    if name == "rectangle" and draw.pick((True, False)):
        turned = [(-y, x) for x, y in turned]
    return [(centre[0] + radius * x, centre[1] + radius * y) for x, y in turned]


def scatter(draw: Draw, count: int, radius: float, margin: float = 8.0) -> list[Point]:
    """``count`` centres of discs of ``radius`` that neither touch one another nor the edge: a jittered grid,
    chosen at random.

    Used where the number of things is the answer, so that things never overlap. ``radius`` is at most 34 for up
    to 9 things.
    """
    cells = 2 if count <= 4 and radius > 34 else 3
    pitch = SIDE / cells
    slack = max(0.0, pitch / 2 - radius - margin / 2)
    chosen = draw.sample(range(cells * cells), count)
    return [
        (
            pitch * (cell % cells + 0.5) + draw.uniform(-slack, slack),
            pitch * (cell // cells + 0.5) + draw.uniform(-slack, slack),
        )
        for cell in chosen
    ]
