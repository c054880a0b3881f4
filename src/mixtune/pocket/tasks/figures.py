"""Science pictures: clocks, function plots, molecules, angles, vessels
and dice. Every function returns a finished picture.
"""

from __future__ import annotations

import math
from itertools import pairwise

from PIL import Image

from mixtune.pocket.tasks.draw import INK, MIDDLE, Canvas, Colour, Point, polar
from mixtune.pocket.tasks.spec import Draw

FUNCTIONS: tuple[str, ...] = ("line", "parabola", "sine", "staircase", "exponential", "circle")
LEVELS: dict[str, float] = {"empty": 0.0, "low": 0.25, "half": 0.5, "high": 0.75, "full": 1.0}
ANGLES: tuple[str, ...] = ("acute", "right", "obtuse")
PENS: tuple[str, ...] = ("red", "green", "blue", "purple", "black", "brown")
CHALK: Colour = (240, 240, 230)
PIPS: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((0, 0),),
    2: ((-1, -1), (1, 1)),
    3: ((-1, -1), (0, 0), (1, 1)),
    4: ((-1, -1), (1, -1), (-1, 1), (1, 1)),
    5: ((-1, -1), (1, -1), (0, 0), (-1, 1), (1, 1)),
    6: ((-1, -1), (1, -1), (-1, 0), (1, 0), (-1, 1), (1, 1)),
}


def clock(draw: Draw, hour: int, plain: bool = False) -> Image.Image:
    """A round clock with ticks and numerals at the full hour;
    ``plain``: a square one with coloured hands and neither.
    """
    canvas = Canvas(draw)
    centre, radius = (draw.uniform(120, 136), draw.uniform(120, 136)), draw.uniform(92, 112)
    box = (centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius)
    if plain:
        canvas.pen.rounded_rectangle(box, 28, fill=(252, 252, 252), outline=canvas.shade(draw.pick(PENS)), width=9)
    else:
        canvas.pen.ellipse(box, fill=(252, 252, 252), outline=INK, width=6)
        for k in range(1, 13):
            canvas.text(str(k), polar(centre, radius * 0.8, 30 * k), 25, INK, "DejaVuSans.ttf")
    hand = canvas.shade(draw.pick(PENS)) if plain else INK
    canvas.line([centre, polar(centre, radius * 0.68, 0)], hand, 6)
    canvas.line([centre, polar(centre, radius * 0.46, 30 * hour)], hand, 12)
    canvas.dot(*centre, 8, hand)
    return canvas.finish()


def _curve(kind: str, draw: Draw) -> list[Point]:
    """Points of a curve in [-1, 1]², with random parameters; y grows upwards."""
    sign, xs = draw.pick((-1.0, 1.0)), [k / 40 - 1 for k in range(81)]
    a, phase = draw.uniform(0.6, 0.95), draw.uniform(0, math.tau)
    if kind == "line":
        return [(x, sign * a * x) for x in xs]
    if kind == "parabola":
        return [(x, sign * (1.8 * a * x * x - a)) for x in xs]
    if kind == "sine":
        waves = draw.uniform(1.5, 2.6)
        return [(x, a * 0.85 * math.sin(math.pi * waves * x + phase)) for x in xs]
    if kind == "exponential":
        return [(sign * x, 1.8 * math.exp(3.2 * a * (x - 1)) - 0.9) for x in xs]
    if kind == "circle":
        return [(a * math.cos(t * math.pi), a * math.sin(t * math.pi)) for t in xs]
    count = int(draw.rng.integers(3, 6))
    edges = [(2 * k / count - 1, sign * (2 * (k + side) / count - 1) * 0.9) for k in range(count) for side in (0, 1)]
    return [(x, y) for k, (x0, y) in enumerate(edges) for x in ((x0,) if k % 2 == 0 else (x0, x0 + 2 / count))]


def function_plot(draw: Draw, kind: str, chalk: bool = False) -> Image.Image:
    """A curve between axes in a coloured pen; ``chalk``: as dots in white on a dark board."""
    canvas = Canvas(draw, dark=chalk)
    axes = (150, 150, 150)
    canvas.line([(12, MIDDLE), (244, MIDDLE)], axes, 3)
    canvas.line([(MIDDLE, 12), (MIDDLE, 244)], axes, 3)
    points = [(MIDDLE + 108 * x, MIDDLE - 108 * y) for x, y in _curve(kind, draw)]
    if chalk:
        for x, y in resampled(points, 11.0):
            canvas.dot(x, y, 4.5, CHALK)
    else:
        canvas.line(points, canvas.shade(draw.pick(PENS)), 8)
    return canvas.finish()


def resampled(points: list[Point], pitch: float) -> list[Point]:
    """Points every ``pitch`` pixels along a line."""
    result, left = [points[0]], pitch
    for (x0, y0), (x1, y1) in pairwise(points):
        length = math.hypot(x1 - x0, y1 - y0)
        while length >= left > 0:
            x0, y0, length = x0 + (x1 - x0) * left / length, y0 + (y1 - y0) * left / length, length - left
            result.append((x0, y0))
            left = pitch
        left -= length
    return result


def _ring_centres(draw: Draw, count: int, pitch: float, turn: float) -> list[Point]:
    """Centres of ``count`` hexagons fused side to side in a random chain around the picture's middle."""
    cells = [(0.0, 0.0)]
    while len(cells) < count:
        x, y = polar(cells[-1], 1.0, 60 * int(draw.rng.integers(6)) + turn)
        if all(math.hypot(x - u, y - v) > 0.9 for u, v in cells):
            cells.append((x, y))
    middle_x, middle_y = (sum(cell[axis] for cell in cells) / count for axis in (0, 1))
    return [(MIDDLE + pitch * (x - middle_x), MIDDLE + pitch * (y - middle_y)) for x, y in cells]


def molecule(draw: Draw, rings: int, dark: bool = False) -> Image.Image:
    """A skeletal formula of fused six-rings, some with a side bond; ``dark``: light on dark, a circle in each ring."""
    canvas = Canvas(draw, dark=dark)
    pitch, turn = draw.uniform(50, 56) if rings > 2 else draw.uniform(56, 76), draw.uniform(-25, 25)
    centres = _ring_centres(draw, rings, pitch, turn)
    ink, radius = (CHALK if dark else INK), pitch / math.sqrt(3)
    for x, y in centres:
        corners = [polar((x, y), radius, 60 * k + 30 + turn) for k in range(7)]
        canvas.line(corners, ink, 5)
        if dark:
            inner = radius * 0.55
            canvas.pen.ellipse((x - inner, y - inner, x + inner, y + inner), outline=ink, width=4)
        for k in () if dark else (0, 2, 4):
            canvas.line([polar((x, y), radius * 0.76, 60 * (k + j) + 30 + turn) for j in (0, 1)], ink, 4)
    if rings < 4 and draw.pick((True, False)):
        far = max(corners, key=lambda corner: math.dist(corner, (MIDDLE, MIDDLE)))
        canvas.line([far, (far[0] + 0.8 * (far[0] - x), far[1] + 0.8 * (far[1] - y))], ink, 5)
    return canvas.finish()


def angle(draw: Draw, kind: str) -> Image.Image:
    """Two rays and the arc between them: 25–60 degrees acute, 90 right, 120–160 obtuse."""
    canvas = Canvas(draw)
    wide = {"acute": draw.uniform(25, 60), "right": 90.0, "obtuse": draw.uniform(120, 160)}[kind]
    start, pen = draw.uniform(0, 360), canvas.shade(draw.pick(PENS))
    middle = polar((MIDDLE, MIDDLE), 45, start + wide / 2 + 180)
    for degrees in (start, start + wide):
        canvas.line([middle, polar(middle, 120, degrees)], pen, 8)
    canvas.line([polar(middle, 40, start + wide * k / 12) for k in range(13)], pen, 4)
    return canvas.finish()


def beaker(draw: Draw, level: str) -> Image.Image:
    """A glass, open above, with a coloured liquid up to one of ``LEVELS``."""
    canvas = Canvas(draw)
    x, wide, top, bottom = (draw.uniform(112, 144), draw.uniform(52, 78), draw.uniform(24, 40), draw.uniform(212, 232))
    height = (bottom - top - 14) * (LEVELS[level] + (draw.uniform(-0.03, 0.03) if 0 < LEVELS[level] < 1 else 0))
    if height > 0:
        canvas.pen.rectangle((x - wide, bottom - height, x + wide, bottom), fill=canvas.shade(draw.pick(PENS[:4])))
    canvas.line([(x - wide, top), (x - wide, bottom), (x + wide, bottom), (x + wide, top)], INK, 7)
    return canvas.finish()


def battery(draw: Draw, level: str) -> Image.Image:
    """A standing battery of four cells, charged from below up to one of ``LEVELS``."""
    canvas = Canvas(draw)
    x, wide, top, bottom = (draw.uniform(112, 144), draw.uniform(46, 70), draw.uniform(34, 46), draw.uniform(214, 232))
    cell, charge = (bottom - top - 14) / 4, canvas.shade(draw.pick(PENS[:4]))
    for k in range(round(4 * LEVELS[level])):
        floor = bottom - 10 - k * cell
        canvas.pen.rectangle((x - wide + 12, floor - cell + 6, x + wide - 12, floor), fill=charge)
    canvas.pen.rectangle((x - wide, top, x + wide, bottom), outline=INK, width=6)
    canvas.pen.rectangle((x - 20, top - 14, x + 20, top), fill=INK)
    return canvas.finish()


def die(draw: Draw, pips: int) -> Image.Image:
    """One face of a die with 1 to 6 pips."""
    canvas = Canvas(draw)
    x, y, half = draw.uniform(112, 144), draw.uniform(112, 144), draw.uniform(80, 100)
    dark = draw.pick((True, False))
    face = canvas.shade(draw.pick(PENS)) if dark else (252, 252, 252)
    canvas.pen.rounded_rectangle((x - half, y - half, x + half, y + half), 26, fill=face, outline=INK, width=6)
    for dx, dy in PIPS[pips]:
        canvas.dot(x + dx * half * 0.55, y + dy * half * 0.55, half * 0.17, CHALK if dark else INK)
    return canvas.finish()


def arrow(draw: Draw, degrees: float) -> Image.Image:
    """A bold arrow that points ``degrees`` clockwise from up."""
    canvas = Canvas(draw)
    centre = (draw.uniform(112, 144), draw.uniform(112, 144))
    length, colour = draw.uniform(68, 95), canvas.shade(draw.pick(PENS))
    tip, neck = polar(centre, length, degrees), polar(centre, length * 0.25, degrees)
    canvas.line([polar(centre, -length, degrees), neck], colour, int(draw.rng.integers(18, 30)))
    canvas.pen.polygon(
        [tip, polar(neck, length * 0.62, degrees + 90), polar(neck, length * 0.62, degrees - 90)], fill=colour
    )
    return canvas.finish()
