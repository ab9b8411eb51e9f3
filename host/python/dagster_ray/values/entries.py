"""What a place knows of a value, and what places have in common."""

import time
from collections.abc import Mapping, Sequence
from typing import Protocol, TypedDict

from dagster_ray.values.frames import Frames


class Entry(TypedDict):
    """A value that is kept. Times are seconds since the Unix epoch."""

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
    """The entry of a value that is stored now."""
    return {
        "key": key,
        "type_name": frames.type_name,
        "size": frames.size,
        "stored_at": int(time.time()),
        "keep_until": keep_until,
        "node": None,
        "attributes": dict(attributes),
    }


class Store(Protocol):
    """A place that keeps values; the host lends it to a component.

    Errors are those of :mod:`dagster_ray.errors`. Methods may be called from any thread.
    """

    def put(
        self,
        key: str,
        frames: Frames,
        overwrite: bool,
        keep_until: int | None,
        attributes: Mapping[str, str],
    ) -> Entry:
        """Keeps a value, whole or not at all."""
        ...

    def get(self, key: str) -> Frames:
        """Loads a value."""
        ...

    def stat(self, keys: Sequence[str]) -> list[Entry | None]:
        """Looks at entries, in the order of the keys."""
        ...

    def find(self, prefix: str) -> list[Entry]:
        """The entries whose keys begin with a prefix, in order of key."""
        ...

    def delete(self, keys: Sequence[str]) -> int:
        """Removes entries, and says how many there were."""
        ...


__all__ = ["Entry", "Store", "new_entry"]
