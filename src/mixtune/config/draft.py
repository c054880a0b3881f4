"""A settings file while it is put together: plain data, where each value came from, the mistakes found so far."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from mixtune.config.errors import near
from mixtune.config.reading import Path, read_scalar, read_yaml
from mixtune.config.settings import Recipe

LONGEST_VALUE = 80


class Place(NamedTuple):
    """Where a value was written: what to call the place, and its rank among all mistakes."""

    rank: int
    label: str


class Mistake(NamedTuple):
    """One thing that is wrong: where, with which field (dotted; empty where none can be named), and what."""

    place: Place
    field: str
    what: str


def _models_of(annotation: Any) -> list[type[BaseModel]]:
    """Settings classes named anywhere inside a field's annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_of(part)]


def fields_at(path: Path, root: type[BaseModel] = Recipe) -> list[str]:
    """Names of the fields of the settings at `path` under `root` (positions in lists and names in tables of settings
    are passed over); empty if it has none.
    """
    model, in_table = root, False
    for part in path:
        if isinstance(part, int) or in_table:
            in_table = False
            continue
        field = model.model_fields.get(str(part))
        inner = _models_of(field.annotation) if field else []
        if field is None or not inner:
            return []
        model, in_table = inner[0], get_origin(field.annotation) is dict
    return list(model.model_fields)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


class Draft:
    """Plain data of the settings `root` read from `file`, then changed by overrides; `mistakes` grows and nothing
    raises.
    """

    def __init__(self, file: str, root: type[BaseModel] = Recipe):
        self.file, self.root = file, root
        self.value: dict[str, Any] = {}
        self.mistakes: list[Mistake] = []
        self._places: dict[Path, Place] = {(): Place(1, f"{file}:1")}
        self._overrides = 0

    def read(self) -> None:
        """Take in the file. A file that cannot be read or holds no sections is a mistake like any other."""
        top = self._places[()]
        try:
            with open(self.file, encoding="utf-8") as stream:
                document = read_yaml(stream.read())
        except (OSError, UnicodeDecodeError) as error:
            self.mistakes.append(Mistake(Place(0, self.file), "", f"cannot be read: {error}"))
            return
        for path, line in document.lines.items():
            self._places[path] = Place(line, f"{self.file}:{line}")
        for line, what in document.mistakes:
            self.mistakes.append(Mistake(Place(line, f"{self.file}:{line}"), "", what))
        if isinstance(document.value, dict):
            self.value = document.value
        elif not self.mistakes:
            sections = ", ".join(self.root.model_fields)
            what = f"a {self.root.__name__.lower()} has the sections {sections}; this file has none"
            self.mistakes.append(Mistake(top, "", what))

    def override(self, text: str) -> None:
        """Apply one `key=value`; the key is dotted, or a leaf's bare name where one section alone has it."""
        self._overrides += 1
        place = Place(10**9 + self._overrides, f"override '{text}'")
        key, equals, value = text.partition("=")
        try:
            if not equals or not key.strip():
                raise ValueError("is not of the form key=value")
            path = self._resolve(key.strip())
            self._set(path, read_scalar(value))
        except ValueError as error:
            self.mistakes.append(Mistake(place, "", str(error)))
            return
        self._places = {known: where for known, where in self._places.items() if known[: len(path)] != path}
        for end in range(1, len(path) + 1):  # tables on the way that no file has were written by this override too
            self._places.setdefault(path[:end], place)

    def knows(self, path: Path) -> int:
        """How many leading parts of `path` were written somewhere."""
        return next(end for end in range(len(path), -1, -1) if path[:end] in self._places)

    def add(self, path: Path, what: str) -> None:
        """Note a mistake in the value at `path`."""
        self.mistakes.append(Mistake(self._places[path[: self.knows(path)]], ".".join(map(str, path)), what))

    def graft(self, path: Path, other: Draft) -> None:
        """Take over the places and mistakes of another file whose values stand below `path` here."""
        self.mistakes += other.mistakes
        self._places = {(*path, *inner): place for inner, place in other._places.items() if inner} | self._places

    def _resolve(self, key: str) -> Path:
        parts = tuple(int(part) if part.isdigit() else part for part in key.split("."))
        sections = self.root.model_fields
        if len(parts) > 1 or key in sections:
            return parts
        homes = [section for section in sections if key in fields_at((section,), self.root)]
        if len(homes) == 1:
            return (homes[0], key)
        if homes:
            spelt = " or ".join(f"{section}.{key}" for section in homes)
            raise ValueError(f"{key}: is in several sections; write {spelt}")
        leaves = [leaf for section in sections for leaf in fields_at((section,), self.root)]
        raise ValueError(f"{key}: unknown key{near(key, [*leaves, *sections])}")

    def _set(self, path: Path, value: Any) -> None:
        here: Any = self.value
        for depth, part in enumerate(path):
            inside = ".".join(map(str, path[:depth]))
            if isinstance(here, list):
                if not isinstance(part, int) or part >= len(here):
                    raise ValueError(f"{inside}: has {len(here)} entries, from 0 on; there is no '{part}'")
            elif not isinstance(here, dict):
                raise ValueError(f"{inside}: is a single value; it has no key '{part}'")
            elif depth + 1 < len(path) and here.get(part) is None:
                here[part] = {}
            if depth + 1 < len(path):
                here = here[part]
        here[path[-1]] = value

    def add_problems(
        self,
        problems: Iterable[Mapping[str, Any]],
        at: Callable[[Path], Path] = lambda path: path,
        root: type[BaseModel] | None = None,
    ) -> None:
        """Add what pydantic found (its `errors()`), unless the file gave nothing to check.

        The branches of a union are problems of their own there; here they make one line, joined by "or". `at` says
        where in this file a location was written, `root` what was validated, if it is not this draft's own root.
        """
        if self.mistakes and not self.value:
            return
        joined: dict[tuple[Place, str], str] = {}
        for problem in problems:
            place, field, what = self._translate(problem, at, root or self.root)
            before = joined.get((place, field))
            joined[place, field] = f"{before} or {what.partition(' is wrong: ')[2]}" if before else what
        self.mistakes += [Mistake(place, field, what) for (place, field), what in joined.items()]

    def _translate(self, problem: Mapping[str, Any], at: Callable[[Path], Path], root: type[BaseModel]) -> Mistake:
        inside, kind, value = problem["loc"], problem["type"], problem["input"]
        path = at(inside)
        known = path[: self.knows(path)]
        if kind == "missing":
            return Mistake(self._places[known], ".".join(map(str, path)), "missing; it has no default")
        # pydantic appends the branch of a union to the location, which no file has a line for
        field, place = ".".join(map(str, known)), self._places[known]
        if kind == "extra_forbidden":
            return Mistake(place, field, f"unknown key{near(path[-1], fields_at(inside[:-1], root))}")
        if kind == "value_error":
            return Mistake(place, field, str(problem["ctx"]["error"]))
        if kind == "literal_error":
            choices = re.findall(r"'(.*?)'", problem["ctx"]["expected"])
            return Mistake(place, field, f"{_shown(value)} is not one of its values{near(value, choices)}")
        if kind == "model_type":
            keys = ", ".join(fields_at(inside, root))
            return Mistake(place, field, f"{_shown(value)} should be keys and values: {keys}")
        rule = problem["msg"][0].lower() + problem["msg"][1:]
        return Mistake(place, field, f"{_shown(value)} is wrong: {rule}")

    def sorted_mistakes(self) -> list[str]:
        """All mistakes as `place: field: what`: those of the file by line, then the overrides' in order."""
        ordered = sorted(dict.fromkeys(self.mistakes), key=lambda mistake: mistake.place.rank)
        return [": ".join(filter(None, (found.place.label, found.field, found.what))) for found in ordered]
