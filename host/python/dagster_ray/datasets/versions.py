"""The files of a dataset: folders with versions, of which a pointer names the current one.

    <directory>/<asset key>/partition@<key>/version@current.json
                                            version@<id>/*.parquet

A version is complete before the pointer names it. The version before it is kept until the next
one is complete, so that a step that reads it is not disturbed. `@` is quoted in names of assets, so
that no asset has the path of another one's partition or version. `=` would make columns.
"""

import json
import uuid
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote

from dagster_ray.errors import InvalidConfigError

_VERSION = "version@"
_POINTER = f"{_VERSION}current.json"
_PARTITION = "partition@"


@dataclass(frozen=True)
class Version:
    """The current version of a dataset."""

    path: str
    rows: int


class Versions:
    """The versions of datasets in a directory on this machine, or behind a URL."""

    def __init__(self, directory: str) -> None:
        try:
            from fsspec import core  # pyright: ignore[reportMissingTypeStubs]

            opened = cast(Any, core).url_to_fs(directory)
            self._files, self._root = cast("tuple[Any, str]", opened)
        except (ImportError, ValueError) as error:
            hint = "a path, or a URL that fsspec supports"
            raise InvalidConfigError(
                f"directory: {directory} cannot be used: {error}; write {hint}",
                fields=[{"path": "directory", "problem": str(error), "hint": hint}],
            ) from error

    def filesystem(self) -> Any:
        """Returns the file system as one of PyArrow, for workers of Ray."""
        from pyarrow import fs  # pyright: ignore[reportMissingTypeStubs]

        arrow = cast(Any, fs)
        if type(self._files).__name__ == "LocalFileSystem":
            return arrow.LocalFileSystem()
        return arrow.PyFileSystem(arrow.FSSpecHandler(self._files))

    def begin(self, asset: list[str], partition: str | None) -> str:
        """Returns the path of a new version. Nothing is created."""
        return f"{self._folder(asset, partition)}/{_VERSION}{uuid.uuid4().hex}"

    def complete(self, path: str, rows: int) -> None:
        """Makes a version the current one, and removes versions before the previous one."""
        folder, _, name = path.rpartition("/")
        previous = self._pointer(folder)
        pointer = json.dumps({"version": name, "rows": rows}).encode()
        self._files.makedirs(folder, exist_ok=True)
        self._files.pipe_file(f"{folder}/{_POINTER}", pointer)
        kept = {name, _POINTER, previous["version"] if previous else None}
        for found in cast("list[str]", self._files.ls(folder, detail=False)):
            one = found.rstrip("/").rpartition("/")[2]
            if one.startswith(_VERSION) and one not in kept:
                self._files.rm(found, recursive=True)

    def abandon(self, path: str) -> None:
        """Removes what was written of a version."""
        if self._files.exists(path):
            self._files.rm(path, recursive=True)

    def current(self, asset: list[str], partition: str | None) -> Version | None:
        """Returns the current version, or `None` if nothing was stored."""
        folder = self._folder(asset, partition)
        found = self._pointer(folder)
        return Version(f"{folder}/{found['version']}", found["rows"]) if found else None

    def has_files(self, path: str) -> bool:
        """Whether a version has files. An empty dataset has none."""
        self._files.invalidate_cache()
        return self._files.exists(path) and bool(self._files.ls(path, detail=False))

    def _pointer(self, folder: str) -> dict[str, Any] | None:
        # A listing in the client's cache may be older than the pointer.
        self._files.invalidate_cache()
        try:
            return json.loads(self._files.cat_file(f"{folder}/{_POINTER}"))
        except FileNotFoundError:
            return None

    def _folder(self, asset: list[str], partition: str | None) -> str:
        names = [*map(_segment, asset)]
        if partition is not None:
            names.append(f"{_PARTITION}{_segment(partition)}")
        return "/".join([self._root.rstrip("/"), *names])


def _segment(name: str) -> str:
    """Returns a name as one segment of a path. A name of dots alone would be another folder."""
    return quote(name, safe=" ,+:") if name.strip(".") else name.replace(".", "%2E")


__all__ = ["Version", "Versions"]
