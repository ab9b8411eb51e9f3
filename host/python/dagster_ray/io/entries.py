"""The metadata of stored values, and the interface of value stores."""

import time
from collections.abc import Mapping, Sequence
from typing import Protocol, TypedDict

from dagster_ray.errors import ConflictError
from dagster_ray.io.frames import Frames


class Entry(TypedDict):
    """The metadata of a stored value. Times are seconds since the Unix epoch."""

    key: str
    type_name: str
    size: int | None
    stored_at: int
    keep_until: int | None
    node: str | None
    attributes: dict[str, str]


def new_entry(
    key: str, frames: Frames, keep_until: int | None, attributes: Mapping[str, str]
) -> Entry:
    """Returns the entry of a value that is stored now."""
    return {
        "key": key,
        "type_name": frames.type_name,
        "size": frames.size,
        "stored_at": int(time.time()),
        "keep_until": keep_until,
        "node": None,
        "attributes": dict(attributes),
    }


def conflict(key: str, location: str) -> ConflictError:
    """Returns the error for a key that is taken."""
    return ConflictError(f"there is a value under {key} already in {location}")


class Store(Protocol):
    """A value store, which the host makes available to a component.

    Methods raise the exceptions of :mod:`dagster_ray.errors` and may be called from any thread.
    """

    def put(
        self,
        key: str,
        frames: Frames,
        overwrite: bool,
        keep_until: int | None,
        attributes: Mapping[str, str],
    ) -> Entry:
        """Stores a value atomically. Raises `ConflictError` if it exists, unless `overwrite`."""
        ...

    def get(self, key: str) -> Frames:
        """Returns a value. The component includes the text of a `NotFoundError` in its own."""
        ...

    def stat(self, keys: Sequence[str]) -> list[Entry | None]:
        """Returns the entries of keys, in order. A missing value is `None`."""
        ...

    def find(self, prefix: str) -> list[Entry]:
        """Returns the entries whose keys begin with a prefix, sorted by key."""
        ...

    def delete(self, keys: Sequence[str]) -> int:
        """Removes values, and returns how many existed."""
        ...


__all__ = ["Entry", "Store", "conflict", "new_entry"]
