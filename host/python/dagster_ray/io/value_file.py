"""The file format of a value: a magic line, the length of the head, the head as JSON, the parts.

A signed file has another magic line, and a trailer with its signature.
"""

import json
import uuid
from collections.abc import Iterator
from typing import TypedDict

from dagster_ray.errors import BackendError
from dagster_ray.io.entries import Entry
from dagster_ray.io.frames import Frames, Part
from dagster_ray.io.integrity import ValueKeys, refused

_MAGIC = b"dagster-ray value 1\n"
_SIGNED_MAGIC = b"dagster-ray value 2\n"
# The alignment of each part, so that arrays can be used in place.
_ALIGNMENT = 64
_LENGTH_BYTES = 8
# How many bytes are read to get the entry; enough for nearly every value.
HEAD_BYTES = 4096


class _Head(TypedDict):
    # Differs between two writes of a key, for readers that fetch a file in several requests.
    id: str
    entry: Entry
    # The size of each part in bytes.
    parts: list[int]


def write(entry: Entry, frames: Frames, keys: ValueKeys | None) -> Iterator[Part]:
    """Yields the pieces of a value's file, in order. With keys, the file is signed."""
    if keys is None:
        yield from _pieces(_MAGIC, entry, frames)
    else:
        yield from keys.signed(entry["key"], _pieces(_SIGNED_MAGIC, entry, frames))


def _pieces(magic: bytes, entry: Entry, frames: Frames) -> Iterator[Part]:
    views = [memoryview(part).cast("B") for part in frames.parts]
    described: _Head = {
        "id": uuid.uuid4().hex,
        "entry": entry,
        "parts": [view.nbytes for view in views],
    }
    head = json.dumps(described).encode()
    beginning = magic + len(head).to_bytes(_LENGTH_BYTES, "little") + head
    yield beginning
    position = len(beginning)
    for view in views:
        yield bytes(-position % _ALIGNMENT)
        yield view
        position += -position % _ALIGNMENT + view.nbytes


def needed(beginning: Part, path: str) -> int:
    """Returns how many bytes from the file's start contain the entry."""
    start, view = len(_MAGIC), memoryview(beginning)
    if bytes(view[:start]) not in (_MAGIC, _SIGNED_MAGIC) or view.nbytes < start + _LENGTH_BYTES:
        raise BackendError(f"{path} is not a value file of dagster-ray", reason="ForeignFile")
    length = int.from_bytes(view[start : start + _LENGTH_BYTES], "little")
    return start + _LENGTH_BYTES + length


def read_entry(beginning: Part, path: str) -> Entry:
    """Returns the entry of a value's file."""
    return _head(beginning, path)[0]["entry"]


def read(content: Part, path: str, location: str, keys: ValueKeys | None) -> tuple[Entry, Frames]:
    """Returns the entry and the value of a file. The parts are views of the content.

    With keys, a file without a valid signature raises `BackendError`.
    """
    if keys is not None:
        # A writer could change a mapped file after it was verified.
        content = bytes(content)
        if content[: len(_SIGNED_MAGIC)] != _SIGNED_MAGIC:
            problem = f"it is not signed, but {keys.origin} requires it"
            raise refused(path, location, problem)
        keys.verify(path, content, location)
    head, position = _head(content, path)
    view = memoryview(content)
    parts: list[Part] = []
    for size in head["parts"]:
        position += -position % _ALIGNMENT
        part = view[position : position + size]
        if part.nbytes != size:
            raise BackendError(f"{path} is truncated", reason="BrokenFile")
        parts.append(part)
        position += size
    return head["entry"], Frames(head["entry"]["type_name"], parts)


def _head(content: Part, path: str) -> tuple[_Head, int]:
    end, view = needed(content, path), memoryview(content)
    if view.nbytes < end:
        raise BackendError(f"{path} is truncated", reason="BrokenFile")
    return json.loads(bytes(view[len(_MAGIC) + _LENGTH_BYTES : end])), end


__all__ = ["HEAD_BYTES", "needed", "read", "read_entry", "write"]
