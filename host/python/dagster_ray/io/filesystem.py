"""Directories for value files, on this machine or behind URLs that fsspec supports."""

import contextlib
import mmap
import os
import re
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Protocol

from dagster_ray.io.file_names import relative_name
from dagster_ray.io.frames import Part
from dagster_ray.io.remote_directory import RemoteDirectory

# The temporary file of a write.
_PART = ".part"
_PART_NAME = re.compile(r"\.[0-9a-f]{32}\.part")
# Longer than any write takes. An older file was left by a process that was killed.
_STALE_SECONDS = 24 * 3600.0


class Directory(Protocol):
    """Files by name. A name may contain `/`."""

    def write(self, name: str, pieces: Iterable[Part], overwrite: bool) -> bool:
        """Writes a file atomically. Without `overwrite`, returns false if it exists."""
        ...

    def read(self, name: str) -> Part | None:
        """Returns the content of a file, or `None` if it does not exist."""
        ...

    def begin(self, name: str, size: int) -> bytes | None:
        """Returns at most `size` first bytes of a file, or `None` if it does not exist."""
        ...

    def names(self, prefix: str) -> list[str]:
        """Returns the names that begin with a prefix, sorted."""
        ...

    def remove(self, name: str) -> bool:
        """Removes a file, and returns whether it existed."""
        ...


def directory(location: str) -> Directory:
    """Opens the directory of a path or a URL."""
    scheme, separator, rest = location.partition("://")
    if not separator:
        return LocalDirectory(Path(location).expanduser())
    if scheme == "file":
        return LocalDirectory(Path(rest))
    return RemoteDirectory(location)


class LocalDirectory:
    """A directory on this machine. Files are mapped into memory, not copied."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, name: str, pieces: Iterable[Part], overwrite: bool) -> bool:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{uuid.uuid4().hex}{_PART}")
        try:
            with new.open("xb") as file:
                _write_all(file, pieces)
                os.fsync(file.fileno())
            if overwrite:
                new.replace(path)
            else:
                try:
                    os.link(new, path)
                except FileExistsError:
                    return False
        finally:
            new.unlink(missing_ok=True)
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return True

    def read(self, name: str) -> Part | None:
        try:
            with self._path(name).open("rb") as file:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            return None

    def begin(self, name: str, size: int) -> bytes | None:
        try:
            with self._path(name).open("rb") as file:
                return file.read(size)
        except FileNotFoundError:
            return None

    def names(self, prefix: str) -> list[str]:
        # Only files in the last complete folder of the prefix can match.
        folder_prefix = prefix.rpartition("/")[0]
        start = self._path(folder_prefix) if folder_prefix else self._root
        found: list[str] = []
        for folder, _, files in os.walk(start):
            for file in files:
                path = Path(folder, file)
                if _PART_NAME.fullmatch(file):
                    _remove_stale(path)
                    continue
                name = path.relative_to(self._root).as_posix()
                if name.startswith(prefix):
                    found.append(name)
        return sorted(found)

    def remove(self, name: str) -> bool:
        path = self._path(name)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        for folder in path.parents:
            if folder == self._root:
                break
            try:
                folder.rmdir()
            except OSError:
                break
        return True

    def _path(self, name: str) -> Path:
        return self._root / relative_name(name)


def _write_all(file: IO[bytes], pieces: Iterable[Part]) -> None:
    for piece in pieces:
        file.write(piece)


def _remove_stale(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if time.time() - path.stat().st_mtime > _STALE_SECONDS:
            path.unlink()


__all__ = ["Directory", "LocalDirectory", "directory"]
