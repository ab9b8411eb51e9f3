"""A value in pickled form: what is moved and kept, without being looked into."""

import pickle
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# What large contents such as arrays are kept in: bytes, or anything that lends a view of its own.
Part = Any


@dataclass(frozen=True)
class Frames:
    """A pickle (protocol 5) and the buffers that stayed out of it."""

    type_name: str
    parts: Sequence[Part]

    @property
    def size(self) -> int:
        """Bytes of all parts together."""
        return sum(memoryview(part).nbytes for part in self.parts)


def pack(value: object) -> Frames:
    """Pickles a value. Contents that lend a buffer are not copied."""
    buffers: list[pickle.PickleBuffer] = []
    head = _pickler().dumps(value, protocol=5, buffer_callback=buffers.append)
    return Frames(_type_name(value), [head, *(buffer.raw() for buffer in buffers)])


def unpack(frames: Frames) -> Any:
    """The value again. Arrays share the memory of the frames, and are read-only where that is."""
    head, *buffers = frames.parts
    return pickle.loads(head, buffers=buffers)


def _type_name(value: object) -> str:
    cls = type(value)
    return (
        cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    )


def _pickler() -> Any:
    """The pickler that also takes functions and classes of the main module, where there is one."""
    if "ray" not in sys.modules:
        try:
            import cloudpickle  # pyright: ignore[reportMissingImports]
        except ImportError:
            pass
        else:
            return cloudpickle
    try:
        from ray import cloudpickle as ray_cloudpickle
    except ImportError:
        return pickle
    return ray_cloudpickle


__all__ = ["Frames", "Part", "pack", "unpack"]
