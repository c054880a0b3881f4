"""One sample as every reader gives it: a conversation with image placeholders, its images and its task."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image, ImageOps

PLACEHOLDER = "<image>"
ROLES = ("system", "user", "assistant")


class DataError(ValueError):
    """Data that cannot be used; the message names file and line, field, value and reason."""


class SampleError(DataError):
    """One sample that cannot be used: `origin`, `field` and `reason` make up the message."""

    def __init__(self, origin: str, field: str = "", reason: str = ""):
        self.origin, self.field, self.reason = origin, field, reason
        super().__init__(": ".join(filter(None, (origin, field, reason))))


@dataclass(frozen=True)
class Message:
    """One turn: `role` is "system", "user" or "assistant"; `text` holds an `<image>` where each image is."""

    role: str
    text: str


@dataclass(frozen=True)
class ImageRef:
    """Where an image is: a file's `path`, or, with `read`, a name for the encoded bytes of `read()`."""

    path: str
    read: Callable[[], bytes] | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True)
class Sample:
    """A conversation with as many `<image>` placeholders as images, a task label, and perhaps answer options.

    `origin` says where it was read ("train.jsonl:12"), for error messages.
    """

    id: str
    messages: tuple[Message, ...]
    images: tuple[ImageRef, ...]
    task: str
    options: tuple[str, ...] = ()
    origin: str = ""


@dataclass(frozen=True)
class BadSample:
    """A sample left out: where it is, which field, its value (shortened) and why."""

    origin: str
    field: str
    value: str
    reason: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.field}: " + " ".join(filter(None, (self.value, self.reason)))


def _open(ref: ImageRef) -> Image.Image:
    return Image.open(io.BytesIO(ref.read()) if ref.read else ref.path)


def load_image(ref: ImageRef) -> Image.Image:
    """The picture as RGB, upright by its EXIF orientation. DataError names a missing or broken file."""
    try:
        with _open(ref) as picture:
            picture.load()
            return ImageOps.exif_transpose(picture).convert("RGB")
    except FileNotFoundError as error:
        raise DataError(f"{ref}: there is no such image file") from error
    except Exception as error:  # the decoders raise OSError, SyntaxError, ValueError, struct.error and their own
        raise DataError(f"{ref}: the image cannot be decoded ({error})") from error


def image_size(ref: ImageRef) -> tuple[int, int]:
    """Width and height of `load_image(ref)`, from the file's header alone."""
    try:
        with _open(ref) as picture:
            turned = picture.getexif().get(0x0112, 1) >= 5  # the four orientations that swap the sides
            return picture.size[::-1] if turned else picture.size
    except Exception as error:
        raise DataError(f"{ref}: the image cannot be read ({error})") from error
