"""A value store in a directory, with one file per value."""

import time
from collections.abc import Mapping, Sequence

from dagster_ray.errors import NotFoundError
from dagster_ray.io import value_file
from dagster_ray.io.entries import Entry, conflict, new_entry
from dagster_ray.io.filesystem import Directory, directory
from dagster_ray.io.frames import Frames
from dagster_ray.io.integrity import ValueKeys

# Lets a key be a file and also a folder of longer keys.
_SUFFIX = ".value"


class DirectoryStore:
    """Stores values as files of a directory, which the first value creates.

    With the operator's keys, each value is signed, and verified before it is returned.
    """

    def __init__(self, location: str, keys: ValueKeys | None = None) -> None:
        self._location = location
        self._keys = keys
        self._directory: Directory | None = None

    def put(
        self,
        key: str,
        frames: Frames,
        overwrite: bool,
        keep_until: int | None,
        attributes: Mapping[str, str],
    ) -> Entry:
        entry = new_entry(key, frames, keep_until, attributes)
        if not overwrite:
            # Removes an expired value, so that it does not conflict.
            self._entry(key)
        pieces = value_file.write(entry, frames, self._keys)
        if not self._files.write(key + _SUFFIX, pieces, overwrite):
            raise conflict(key, self._location)
        return entry

    def get(self, key: str) -> Frames:
        content = self._files.read(key + _SUFFIX)
        if content is not None:
            entry, frames = value_file.read(content, key, self._location, self._keys)
            if self._is_kept(key, entry):
                return frames
        raise NotFoundError(f"looked in {self._location}")

    def stat(self, keys: Sequence[str]) -> list[Entry | None]:
        return [self._entry(key) for key in keys]

    def find(self, prefix: str) -> list[Entry]:
        names = self._files.names(prefix)
        entries = [
            self._entry(name.removesuffix(_SUFFIX)) for name in names if name.endswith(_SUFFIX)
        ]
        return [entry for entry in entries if entry is not None]

    def delete(self, keys: Sequence[str]) -> int:
        return sum(self._files.remove(key + _SUFFIX) for key in keys)

    @property
    def _files(self) -> Directory:
        if self._directory is None:
            self._directory = directory(self._location)
        return self._directory

    def _entry(self, key: str) -> Entry | None:
        name = key + _SUFFIX
        beginning = self._files.begin(name, value_file.HEAD_BYTES)
        if beginning is None:
            return None
        needed = value_file.needed(beginning, name)
        if needed > len(beginning):
            beginning = self._files.begin(name, needed)
            if beginning is None:
                return None
        entry = value_file.read_entry(beginning, name)
        return entry if self._is_kept(key, entry) else None

    def _is_kept(self, key: str, entry: Entry) -> bool:
        """Whether the value under a key has not expired. An expired value is removed."""
        until = entry["keep_until"]
        if until is None or time.time() < until:
            return True
        self._files.remove(key + _SUFFIX)
        return False


__all__ = ["DirectoryStore"]
