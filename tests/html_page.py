"""A page of the report as tests read it: ids, what it would load, its scripts and its visible text."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any


class Page(HTMLParser):
    """`fetched` are all addresses that leave the page, `loaded` those of them that a browser asks for unasked, and
    `handlers` attributes that run code.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.fetched: list[str] = []
        self.loaded: list[str] = []
        self.handlers: list[str] = []
        self.scripts: list[tuple[dict, str]] = []
        self.words: list[str] = []
        self.figures: list[str] = []
        self._inside: str | None = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids |= {found["id"]} if "id" in found else set()
        self.figures += [found["data-figure"]] if "data-figure" in found else []
        links = [found.get(name) or "" for name in ("src", "href", "srcset", "poster", "data", "action")]
        left = [link for link in links if link and not link.startswith(("data:", "#"))]
        self.fetched += left
        self.loaded += left if tag != "a" else []
        self.handlers += [name for name in found if name.startswith("on")]
        self._inside = tag if tag in ("script", "style") else None
        if tag == "script":
            self.scripts.append((found, ""))

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self._inside is None:
            self.words.append(data)

    @property
    def text(self) -> str:
        """All visible words, with one space between."""
        return " ".join(" ".join(self.words).split())

    def json(self, name: str) -> Any:
        return json.loads(next(text for attrs, text in self.scripts if attrs.get("id") == name))
