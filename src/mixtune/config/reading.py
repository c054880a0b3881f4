"""YAML in which every value knows its line: YAML 1.2 numbers, no duplicate keys, nothing but plain data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

Path = tuple[Any, ...]
"""Keys and list positions from the top of a document to one value."""


_NUMBER = "-+0123456789."
_REAL = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
_RULES = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0x[0-9a-fA-F]+", _NUMBER),
    ("float", _REAL, _NUMBER),
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("merge", r"<<", "<"),
)


def _core_rules() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """YAML 1.2's core rules by letter. PyYAML's own read `1e-4` as text, `no` as false, `1:30` as 90."""
    rules: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for kind, pattern, letters in _RULES:
        for letter in letters:
            rule = (f"tag:yaml.org,2002:{kind}", re.compile(rf"(?:{pattern})\Z"))
            rules.setdefault(letter, []).append(rule)
    return rules


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _core_rules()

    def construct_yaml_int(self, node: yaml.Node) -> int:
        """Decimal or hexadecimal: a leading zero does not make a number octal."""
        return int(node.value, 16 if node.value.startswith("0x") else 10)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _core_rules()


@dataclass
class Document:
    """Parsed YAML: `value` is plain data, `lines` the line (from 1) of each path, `mistakes` (line, what)."""

    value: Any
    lines: dict[Path, int] = field(default_factory=dict)
    mistakes: list[tuple[int, str]] = field(default_factory=list)


def _walk(node: yaml.Node, path: Path, document: Document) -> Iterator[tuple[Path, int]]:
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for position, child in enumerate(node.value):
            yield from _walk(child, (*path, position), document)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key, child in node.value:
        line, inner = key.start_mark.line + 1, (*path, str(key.value))
        if inner[-1] in seen and key.tag != "tag:yaml.org,2002:merge":
            what = f"{'.'.join(map(str, inner))}: duplicate key; first given on line {seen[inner[-1]]}"
            document.mistakes.append((line, what))
        seen.setdefault(inner[-1], line)
        yield from _walk(child, inner, document)
        yield inner, line


def read_yaml(text: str) -> Document:
    """Parse one YAML document of plain data.

    Syntax errors, duplicate keys, unknown tags and unhashable keys do not raise: they are put in `mistakes`,
    and `value` is None where nothing could be read.
    """
    document = Document(None)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is not None:
            document.lines = dict(_walk(node, (), document))
            document.value = loader.construct_document(node)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        document.mistakes.append((mark.line + 1 if mark else 1, f"not valid YAML: {problem}"))
    return document


def read_scalar(text: str) -> Any:
    """The value of one override, read by the same rules (`1e-4` is a number). ValueError if not YAML."""
    document = read_yaml(text)
    if document.mistakes:
        raise ValueError(document.mistakes[0][1])
    return document.value


def write_yaml(value: Any) -> str:
    """Plain data as YAML that `read_yaml` reads back to equal data; keys stay in order."""
    return yaml.dump(value, Dumper=_Dumper, allow_unicode=True, width=110, sort_keys=False, default_flow_style=False)
