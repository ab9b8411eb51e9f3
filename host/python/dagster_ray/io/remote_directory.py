"""A directory of value files behind a URL, through fsspec.

Values are sent and received in parts, of which only a few are in memory at once, beside the value.
"""

import contextlib
import inspect
import tempfile
from collections.abc import Container, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from dagster_ray.errors import InvalidConfigError, UnavailableError
from dagster_ray.io.file_names import relative_name
from dagster_ray.io.frames import Part

# Object stores take at least 5 MiB for a part.
_PART_BYTES = 8 << 20
# Parts that are sent or received at once. A client may hold a part twice while it receives it.
_PARALLEL = 3
# Object stores take at most 10,000 parts.
_MAX_PARTS = 9_000
# The beginning of a value file, which contains the id of the write.
_BEGINNING_BYTES = 4096
_TRIES = 3


class RemoteDirectory:
    """A directory behind a URL. A file is visible when its upload has ended."""

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
        views = [memoryview(piece).cast("B") for piece in pieces]
        size = sum(view.nbytes for view in views)
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        if self._is_local or (self._commits and size > _PART_BYTES):
            self._upload(path, views, size)
        elif self._commits:
            self._files.pipe_file(path, b"".join(views))
        else:
            self._copy(path, views)
        return True

    def read(self, name: str) -> Part | None:
        path = self._path(name)
        with self._missing_is_none():
            for _ in range(_TRIES):
                # A listing in the client's cache may be older than the file.
                self._files.invalidate_cache()
                size = int(self._files.info(path)["size"])
                if size <= _PART_BYTES:
                    return self._files.cat_file(path)
                content = self._download(path, size)
                if content is not None:
                    return content
            raise UnavailableError(f"{path} is written faster than it can be read")
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

    @property
    def _parameters(self) -> Container[str]:
        """The parameters with which the client opens a file."""
        return inspect.signature(self._files._open).parameters

    @property
    def _commits(self) -> bool:
        """Whether an upload in parts is visible only when it is complete."""
        return self._is_local or "autocommit" in self._parameters

    @property
    def _is_local(self) -> bool:
        protocols = self._files.protocol
        return "local" in ((protocols,) if isinstance(protocols, str) else protocols)

    def _upload(self, path: str, views: "Sequence[memoryview]", size: int) -> None:
        """Sends a file in parts. It becomes visible with the last step, `commit`."""
        part = max(_PART_BYTES, size // _MAX_PARTS + 1)
        options: dict[str, Any] = {"block_size": part, "autocommit": False}
        if "max_concurrency" in self._parameters:
            options["max_concurrency"] = _PARALLEL
        file = self._files.open(path, "wb", **options)
        try:
            for chunk in _chunks(views, part):
                file.write(chunk)
            file.close()
        except BaseException:
            with contextlib.suppress(Exception):
                file.discard()
            with contextlib.suppress(AttributeError):
                # Some clients would send what they have when the object is deleted.
                file.closed = True
            raise
        if hasattr(file, "commit"):
            file.commit()

    def _copy(self, path: str, views: "Sequence[memoryview]") -> None:
        """Sends a file in one call, from a local file, so that a failure before leaves nothing."""
        with tempfile.NamedTemporaryFile() as file:
            for view in views:
                file.write(view)
            file.flush()
            self._files.put_file(file.name, path)

    def _download(self, path: str, size: int) -> "memoryview | None":
        """Receives a file in parts. Returns `None` if the file has been replaced meanwhile."""
        content = memoryview(bytearray(size))

        def receive(start: int) -> bool:
            end = min(start + _PART_BYTES, size)
            part = self._files.cat_file(path, start=start, end=end)
            if len(part) != end - start:
                return False
            content[start:end] = part
            return True

        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="values") as pool:
            complete = all(pool.map(receive, range(0, size, _PART_BYTES)))
        beginning = self._files.cat_file(path, start=0, end=min(size, _BEGINNING_BYTES))
        is_same = complete and beginning == content[: len(beginning)]
        return content.toreadonly() if is_same else None

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{relative_name(name)}"

    @contextlib.contextmanager
    def _missing_is_none(self) -> Generator[None, None, None]:
        with contextlib.suppress(FileNotFoundError):
            yield


def _chunks(views: "Sequence[memoryview]", size: int) -> "Iterator[memoryview]":
    """Yields the content of views in pieces. A client copies a piece into its buffer."""
    for view in views:
        for start in range(0, view.nbytes, size):
            yield view[start : start + size]


__all__ = ["RemoteDirectory"]
