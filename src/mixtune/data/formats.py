"""Rows of the known formats as samples: LLaVA and ShareGPT conversations, `messages` with text or parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mixtune.config import near
from mixtune.data.sample import PLACEHOLDER, ROLES, ImageRef, Message, Sample

TASK_KEYS = ("task", "task_name", "channel", "source")
ROLE_NAMES = {"human": "user", "gpt": "assistant", **{role: role for role in ROLES}}
CONVERSATION_KEYS = {
    "llava": ("conversations",),
    "sharegpt": ("conversations", "messages"),
    "messages": ("messages",),
    "auto": ("messages", "conversations"),
    "datasets": ("messages", "conversations"),
}
LONGEST_VALUE = 80


class RowError(ValueError):
    """A row that is no sample: the `field` at fault, its `value` shortened, and the `reason`."""

    def __init__(self, field: str, value: object, reason: str):
        self.field, self.reason = field, reason
        text = value if isinstance(value, str) and field == "line" else repr(value)
        self.value = text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."
        super().__init__(f"{field}: {self.value} {reason}")


@dataclass(frozen=True, kw_only=True)
class RowContext:
    """What a row does not say itself: its format, its fallback task, and how to find an image entry."""

    format: str
    task: str
    find_image: Callable[[Any, str], ImageRef]


def sample_from_row(row: Any, origin: str, context: RowContext) -> Sample:
    """One row as a Sample. RowError names the first thing that is wrong: field, value, reason."""
    if not isinstance(row, Mapping):
        raise RowError("row", row, "is not an object with keys")
    key, turns = _conversation(row, context.format)
    parsed = [_turn(turn, f"{key}[{number}]") for number, turn in enumerate(turns)]
    messages = [message for message, _ in parsed]
    if row.get("system"):
        messages.insert(0, Message("system", str(row["system"])))
    _check_turns(messages, key)
    inline = [entry for _, entries in parsed for entry in entries]
    images = _images(row, inline, context)
    if key == "conversations" or context.format == "sharegpt":
        messages = _with_placeholder(messages, len(images))
    _check_placeholders(messages, len(images), key)
    return Sample(
        id=str(row["id"]) if row.get("id") is not None else origin,
        messages=tuple(messages),
        images=images,
        task=_task(row, context.task),
        options=_options(row),
        origin=origin,
    )


def _conversation(row: Mapping[str, Any], format_name: str) -> tuple[str, list[Any]]:
    keys = CONVERSATION_KEYS[format_name]
    key = next((key for key in keys if row.get(key) is not None), None)
    if key is None:
        hint = next((near(present, keys) for present in row if "mean" in near(present, keys)), "")
        raise RowError(keys[0], sorted(map(str, row)), f"are the row's keys; '{keys[0]}' is missing{hint}")
    turns = row[key]
    if isinstance(turns, Mapping) and turns and all(isinstance(column, list) for column in turns.values()):
        turns = [dict(zip(turns, cells, strict=False)) for cells in zip(*turns.values(), strict=False)]
    if not isinstance(turns, list) or not turns:
        raise RowError(key, turns, "should be a list of at least one turn")
    return key, turns


def _turn(turn: Any, field: str) -> tuple[Message, list[Any]]:
    """A turn as a message and the images its parts hold themselves (None for a part that names none)."""
    if not isinstance(turn, Mapping):
        raise RowError(field, turn, "is not an object with role and content")
    name, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    if not isinstance(name, str) or name not in ROLE_NAMES:
        raise RowError(f"{field}.role", name, f"is no known role{near(name, ROLE_NAMES)}")
    role = ROLE_NAMES[name]
    if isinstance(content, str):
        return Message(role, content), []
    if not isinstance(content, list):
        raise RowError(f"{field}.content", content, "is neither text nor a list of parts")
    parts = [_part(part, f"{field}.content[{number}]") for number, part in enumerate(content)]
    return Message(role, "".join(text for text, _ in parts)), [entry for _, found in parts for entry in found]


def _part(part: Any, field: str) -> tuple[str, list[Any]]:
    if isinstance(part, str):
        return part, []
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return part["text"], []
    if kind == "image":
        entry = next((part[key] for key in ("image", "path", "url") if part.get(key) is not None), None)
        return PLACEHOLDER, [entry]
    if kind == "image_url":
        entry = part.get("image_url")
        return PLACEHOLDER, [entry.get("url") if isinstance(entry, Mapping) else entry]
    raise RowError(field, part, "is no part of type text (with text) or image")


def _images(row: Mapping[str, Any], inline: list[Any], context: RowContext) -> tuple[ImageRef, ...]:
    field = "images" if row.get("images") else "image"
    found = row.get(field)
    if found is None or found == "" or found == []:
        found, field = [entry for entry in inline if entry is not None], "content"
    elif any(entry is not None for entry in inline):
        raise RowError(field, found, "is given, and parts of the messages name images too; keep one of them")
    entries = found if isinstance(found, list) else [found]
    return tuple(context.find_image(entry, f"{field}[{number}]") for number, entry in enumerate(entries))


def _with_placeholder(messages: list[Message], images: int) -> list[Message]:
    """LLaVA's convention: a single image without a placeholder stands before the first question."""
    if images != 1 or any(PLACEHOLDER in message.text for message in messages):
        return messages
    first = next(number for number, message in enumerate(messages) if message.role == "user")
    return [
        Message("user", f"{PLACEHOLDER}\n{message.text}") if number == first else message
        for number, message in enumerate(messages)
    ]


def _check_turns(messages: list[Message], key: str) -> None:
    answers = [message for message in messages if message.role == "assistant"]
    if not answers:
        raise RowError(key, [message.role for message in messages], "are the roles; there is no assistant turn")
    if any(not message.text.strip() for message in answers):
        raise RowError(key, "", "is an assistant's answer; answers must not be empty")
    if next(message.role for message in messages if message.role != "system") != "user":
        raise RowError(key, "assistant", "speaks first; a conversation begins with the user")


def _check_placeholders(messages: list[Message], images: int, key: str) -> None:
    if any(PLACEHOLDER in message.text for message in messages if message.role != "user"):
        raise RowError(key, PLACEHOLDER, "stands outside the user's turns")
    count = sum(message.text.count(PLACEHOLDER) for message in messages)
    if count != images:
        raise RowError("images", images, f"image(s), but {count} {PLACEHOLDER} placeholder(s) in {key}")


def _task(row: Mapping[str, Any], fallback: str) -> str:
    key = next((key for key in TASK_KEYS if row.get(key) is not None), None)
    if key is None:
        return fallback
    if not isinstance(row[key], (str, int)) or not str(row[key]).strip():
        raise RowError(key, row[key], "is no task label; give a non-empty text or leave the key out")
    return str(row[key])


def _options(row: Mapping[str, Any]) -> tuple[str, ...]:
    options = row.get("options")
    if options is None:
        return ()
    if not isinstance(options, list):
        raise RowError("options", options, "should be a list of answers")
    return tuple(str(option) for option in options)
