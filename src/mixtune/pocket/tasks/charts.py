"""Chart and sign pictures: bars, pies, trend lines and plates. Every function returns a finished 128 × 128 picture."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from mixtune.pocket.tasks.draw import CHART_COLOURS, COLOURS, INK, MIDDLE, Canvas
from mixtune.pocket.tasks.spec import Draw

TRENDS: tuple[str, ...] = ("rising", "falling", "flat")
FLOOR = 232  # the canvas line on which bars stand


def bars(
    draw: Draw,
    heights: Sequence[float],
    colours: Sequence[str],
    *,
    sideways: bool = False,
    hollow: bool = False,
) -> Image.Image:
    """Bars with heights in [0, 1] in the named colours; ``sideways``: growing from the left edge;
    ``hollow``: only outlines.
    """
    canvas = Canvas(draw)
    pitch = 212 / len(heights)
    width = pitch * draw.uniform(0.55, 0.8)
    for number, (height, colour) in enumerate(zip(heights, colours, strict=True)):
        start = 30 + pitch * number + (pitch - width) / 2
        end, reach = start + width, 212 * height
        box = (24, start - 8, 24 + reach, end - 8) if sideways else (start, FLOOR - reach, end, FLOOR)
        if hollow:
            canvas.pen.rectangle(box, outline=canvas.shade(colour), width=5)
        else:
            canvas.pen.rectangle(box, fill=canvas.shade(colour), outline=INK, width=2)
    canvas.line([(24, 12), (24, FLOOR), (246, FLOOR)], INK, 4)
    return canvas.finish()


def bar_heights(draw: Draw, count: int, winner: int) -> list[float]:
    """Heights of which number ``winner`` is the greatest by at least a quarter."""
    top = draw.uniform(0.75, 1.0)
    heights = [draw.uniform(0.15, 0.72) * top for _ in range(count)]
    heights[winner] = top
    return heights


def winner_colours(draw: Draw, count: int, colour: str) -> tuple[int, list[str]]:
    """Colours of ``count`` bars or slices, all different, with ``colour`` at a random place: (place, colours)."""
    others = draw.sample([name for name in CHART_COLOURS if name != colour], count - 1)
    place = int(draw.rng.integers(count))
    return place, [*others[:place], colour, *others[place:]]


def pie(draw: Draw, shares: Sequence[float], colours: Sequence[str]) -> Image.Image:
    """A pie with the given shares (they sum to 1), starting at a random angle."""
    canvas = Canvas(draw)
    radius = draw.uniform(90, 115)
    box = (MIDDLE - radius, MIDDLE - radius, MIDDLE + radius, MIDDLE + radius)
    angle = draw.uniform(0, 360)
    for share, colour in zip(shares, colours, strict=True):
        canvas.pen.pieslice(box, angle, angle + 360 * share, fill=canvas.shade(colour), outline=INK, width=2)
        angle += 360 * share
    return canvas.finish()


def trend_values(draw: Draw, trend: str, count: int) -> list[float]:
    """Values in [0.1, 0.9] that rise, fall or stay level, with a little noise."""
    low, high = draw.uniform(0.12, 0.25), draw.uniform(0.75, 0.88)
    level = draw.uniform(0.3, 0.7)
    ends = {"rising": (low, high), "falling": (high, low), "flat": (level, level)}[trend]
    noise = 0.05 if trend != "flat" else 0.025
    return [ends[0] + (ends[1] - ends[0]) * k / (count - 1) + draw.uniform(-noise, noise) for k in range(count)]


def trend_line(draw: Draw, trend: str, points_only: bool = False) -> Image.Image:
    """A line chart with five to nine points; ``points_only``: twelve to sixteen points and no line."""
    canvas = Canvas(draw)
    values = trend_values(draw, trend, int(draw.rng.integers(12, 17) if points_only else draw.rng.integers(5, 10)))
    step = 200 / (len(values) - 1)
    colour = canvas.shade(draw.pick(("red", "green", "blue", "purple", "black")))
    points = [(36 + step * k, FLOOR - 215 * value) for k, value in enumerate(values)]
    canvas.line([(24, 12), (24, FLOOR), (246, FLOOR)], INK, 4)
    if not points_only:
        canvas.line(points, colour, 7)
    for x, y in points:
        canvas.dot(x, y, 7, colour)
    return canvas.finish()


def trend_bars(draw: Draw, trend: str) -> Image.Image:
    """Bars of one colour whose heights follow the trend."""
    values = trend_values(draw, trend, int(draw.rng.integers(5, 9)))
    return bars(draw, values, [draw.pick(CHART_COLOURS)] * len(values))


def plate(draw: Draw, text: str, ground: str, font: str) -> Image.Image:
    """White text on a coloured plate with rounded corners, like a house number or a road sign."""
    canvas = Canvas(draw)
    x, y = draw.uniform(118, 138), draw.uniform(118, 138)
    wide, high = draw.uniform(95, 112), draw.uniform(65, 90)
    canvas.pen.rounded_rectangle(
        (x - wide, y - high, x + wide, y + high), 20, fill=canvas.shade(ground), outline=INK, width=3
    )
    canvas.text(text, (x, y), fitting_size(draw, text, 118), (250, 250, 250), font)
    return canvas.finish()


def printed(draw: Draw, text: str, colour: str, font: str) -> Image.Image:
    """Coloured text on a light ground, somewhere near the middle."""
    canvas = Canvas(draw)
    place = (draw.uniform(108, 148), draw.uniform(108, 148))
    ink = COLOURS["black"] if colour == "black" else canvas.shade(colour)
    canvas.text(text, place, fitting_size(draw, text, 170), ink, font)
    return canvas.finish()


def fitting_size(draw: Draw, text: str, largest: int) -> int:
    """A random font size at which the text fits the picture, between three quarters of the greatest such
    size and all of it.
    """
    size = min(largest, round(330 / max(2, len(text))))
    return int(draw.rng.integers(size * 3 // 4, size + 1))
