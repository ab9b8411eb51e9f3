"""Directories for value files, on this machine or behind URLs that fsspec supports."""

import contextlib
import mmap
import os
import re
import tempfile
import time
import uuid
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import IO, Any, Protocol, cast

from dagster_ray.errors import InvalidConfigError, PermissionDeniedError
from dagster_ray.io.frames import Part

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
        return self._root / _relative(name)


class RemoteDirectory:
    """A directory behind a URL, through fsspec. A file is visible when its upload has ended."""

    def __init__(self, url: str) -> None:
        try:
            from fsspec import core  # pyright: ignore[reportMissingTypeStubs]

            opened = cast(Any, core).url_to_fs(url)
            self._files, self._root = cast("tuple[Any, str]", opened)
        except (ImportError, ValueError) as error:
            raise InvalidConfigError(
                f"directory: {url} cannot be used: {error}; write a path, or a URL that fsspec "
                "supports",
                fields=[{"path": "directory", "problem": str(error), "hint": "a path or a URL"}],
            ) from error

    def write(self, name: str, pieces: Iterable[Part], overwrite: bool) -> bool:
        path = self._path(name)
        if not overwrite and self._files.exists(path):
            return False
        # Upload the file in one call: no reader sees a part of it, and a writer that fails midway
        # has uploaded nothing.
        with tempfile.NamedTemporaryFile() as file:
            _write_all(file, pieces)
            file.flush()
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._files.put_file(file.name, path)
        return True

    def read(self, name: str) -> Part | None:
        with self._missing_is_none():
            return self._files.cat_file(self._path(name))
        return None

    def begin(self, name: str, size: int) -> bytes | None:
        with self._missing_is_none():
            return self._files.cat_file(self._path(name), start=0, end=size)
        return None

    def names(self, prefix: str) -> list[str]:
        self._files.invalidate_cache()
        folder = prefix.rpartition("/")[0]
        start = self._path(folder) if folder else self._root
        found: list[str] = []
        with self._missing_is_none():
            root = self._files._strip_protocol(self._root).rstrip("/")
            for path in self._files.find(start):
                name = path[len(root) :].lstrip("/")
                if name.startswith(prefix):
                    found.append(name)
        return sorted(found)

    def remove(self, name: str) -> bool:
        with self._missing_is_none():
            self._files.rm_file(self._path(name))
            return True
        return False

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{_relative(name)}"

    @contextlib.contextmanager
    def _missing_is_none(self) -> Generator[None, None, None]:
        with contextlib.suppress(FileNotFoundError):
            yield


def _relative(name: str) -> str:
    """Returns a name that stays inside its directory, or raises.

    The host checks keys too. A directory does not rely on it, because it also serves code that
    does not come through the host.
    """
    if "\\" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise PermissionDeniedError(
            f"{name!r} is not a name inside the directory of values: it has an empty, `.` or `..` "
            "segment, or a backslash; write segments separated by `/`"
        )
    return name


def _write_all(file: IO[bytes], pieces: Iterable[Part]) -> None:
    for piece in pieces:
        file.write(piece)


def _remove_stale(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if time.time() - path.stat().st_mtime > _STALE_SECONDS:
            path.unlink()


__all__ = ["Directory", "LocalDirectory", "RemoteDirectory", "directory"]
