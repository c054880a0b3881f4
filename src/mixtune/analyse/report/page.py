"""The report's page: every section for which there are data, and the rendering itself."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from mixtune.analyse.palette import (
    DARK,
    DIVERGING,
    DIVERGING_DARK,
    LIGHT,
    SILENT,
    SILENT_DARK,
    UNTUNED,
)
from mixtune.analyse.report.material import Material
from mixtune.analyse.report.sections import SECTIONS, Drawn, dashed_styles
from mixtune.analyse.report.words import Said

_TIED = re.compile(r"(?<=\d) (?=%)|(?<=\bp) (?=[=<])|(?<=\bp [=<]) (?=\d)|(?<=\d) (?=to [+−\d])|(?<=\d to) (?=[+−\d])")
STYLES = 30  # models of one page that get a colour each, or a colour and a dash
PALETTE = {
    "untuned": UNTUNED,
    "light": [LIGHT[number % len(LIGHT)] for number in range(STYLES)],
    "dark": [DARK[number % len(DARK)] for number in range(STYLES)],
    "silent": {"light": SILENT, "dark": SILENT_DARK},
}


def render(material: Material, *, answer: Sequence[Said], scale: Sequence[str]) -> str:
    """The whole page as text: HTML with its style, its scripts (plotly.js once, packed) and its pictures inside.

    `answer` opens it, most important first; `scale` are the smaller sentences that help to judge it.
    """
    environment = Environment(
        loader=PackageLoader("mixtune.analyse"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = unbroken
    drawn = Drawn()
    sections = [
        {"name": row.name, "link": row.link, "template": f"{row.name}.html.j2", "v": row.build(material, drawn)}
        for row in SECTIONS
        if row.has(material)
    ]
    colours = {"light": DIVERGING, "dark": DIVERGING_DARK}
    return environment.get_template("report.html.j2").render(
        settings=material.settings,
        answer=answer,
        scale=scale,
        sections=sections,
        palette=PALETTE,
        dashed=dashed_styles(),
        figures=script_json(drawn.figures),
        data={name: script_json(value) for name, value in {**drawn.data, "diverging": colours}.items()},
        plotly=Markup(packed(get_plotlyjs())),
    )


def unbroken(text: str) -> str:
    """A sentence whose numbers no line breaks: `3.1 %`, `p < 0.001` and `−0.9 to +3.0` stay whole."""
    return _TIED.sub("\u00a0", text)


def packed(script: str) -> str:
    """A script as gzip in base64, a third of its size; the page's own script unpacks it."""
    return base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode("ascii")


def script_json(value: Any) -> Markup:
    """JSON for a script element: no text in it can close the element."""
    return Markup(json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"))
