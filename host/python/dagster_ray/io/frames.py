"""Pickled values, which stores move without unpickling them."""

import pickle
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from typing_extensions import Buffer

# Bytes, or another object that supports the buffer protocol.
Part = Buffer


@dataclass(frozen=True)
class Frames:
    """A pickle (protocol 5) followed by its out-of-band buffers."""

    type_name: str
    parts: Sequence[Part]

    @property
    def size(self) -> int:
        """The total size of all parts in bytes."""
        return sum(memoryview(part).nbytes for part in self.parts)


def pack(value: object) -> Frames:
    """Pickles a value. Buffers, such as arrays, are not copied."""
    buffers: list[pickle.PickleBuffer] = []
    head = _pickler().dumps(value, protocol=5, buffer_callback=buffers.append)
    return Frames(_type_name(value), [head, *(buffer.raw() for buffer in buffers)])


def unpack(frames: Frames) -> Any:
    """Unpickles a value. Arrays share the frames' memory, and are read-only if it is."""
    head, *buffers = frames.parts
    return pickle.loads(head, buffers=buffers)


def _type_name(value: object) -> str:
    cls = type(value)
    return (
        cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    )


def _pickler() -> Any:
    """Returns cloudpickle, which pickles code of the main module, if available, or `pickle`."""
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
