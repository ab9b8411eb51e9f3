"""The value registry actor, which owns the values in Ray's object store.

The module is pickled by value, so that no node needs this package, and must import only Ray and the
standard library. The actor does not unpickle values: it copies buffers into objects that it owns.
These outlive the step, are spilled under memory pressure, and are read without a copy.
"""

import pickle
import threading
import time
from typing import TYPE_CHECKING, Any

import ray

if TYPE_CHECKING:
    from dagster_ray.io.entries import Entry
    from dagster_ray.io.frames import Part

# The annotations of some of Ray's functions are incomplete.
_ray: Any = ray
# How often expired entries are removed.
_SWEEP_SECONDS = 30.0


class Registry:
    """Maps keys to the objects that hold their values. Methods run in several threads."""

    def __init__(self) -> None:
        context = ray.get_runtime_context()
        self._node = f"{_ray.util.get_node_ip_address()} ({context.get_node_id()[:8]})"
        self._began = time.time()
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[Entry, Any]] = {}
        threading.Thread(target=self._remove_expired, name="lifetime", daemon=True).start()

    def put(self, entry: "Entry", overwrite: bool, parts: "list[Part]") -> "Entry | None":
        """Stores a value, and returns its entry, or `None` if the key is taken."""
        if not overwrite:
            with self._lock:
                if self._exists(entry["key"]):
                    return None
        reference = _ray.put([pickle.PickleBuffer(part) for part in parts])
        entry = {**entry, "node": self._node, "stored_at": int(time.time())}
        with self._lock:
            if not overwrite and self._exists(entry["key"]):
                return None
            self._entries[entry["key"]] = (entry, reference)
        return entry

    def get(self, key: str) -> "tuple[Entry, list[Any]] | None":
        """Returns an entry and the reference to its parts.

        The reference is in a list, so that Ray does not replace it by the parts.
        """
        with self._lock:
            if not self._exists(key):
                return None
            entry, reference = self._entries[key]
            return entry, [reference]

    def read(self, key: str) -> "tuple[Entry, list[bytes]] | None":
        """Returns an entry and its parts as bytes, for clients without access to shared memory."""
        found = self.get(key)
        if found is None:
            return None
        entry, references = found
        return entry, [bytes(part) for part in ray.get(references[0])]

    def stat(self, keys: list[str]) -> "list[Entry | None]":
        """Returns the entries of keys, in order. A missing value is `None`."""
        with self._lock:
            return [self._entries[key][0] if self._exists(key) else None for key in keys]

    def find(self, prefix: str) -> "list[Entry]":
        """Returns the entries whose keys begin with a prefix, sorted by key."""
        with self._lock:
            keys = sorted(key for key in self._entries if key.startswith(prefix))
            return [self._entries[key][0] for key in keys if self._exists(key)]

    def delete(self, keys: list[str]) -> int:
        """Removes values, and returns how many existed."""
        with self._lock:
            return sum(self._entries.pop(key, None) is not None for key in keys)

    def began(self) -> float:
        """Returns when this actor started, in seconds since the Unix epoch."""
        return self._began

    def process(self) -> int:
        """Returns the actor's process id, for benchmarks."""
        import os

        return os.getpid()

    def _exists(self, key: str) -> bool:
        found = self._entries.get(key)
        if found is None:
            return False
        until = found[0]["keep_until"]
        return until is None or time.time() < until

    def _remove_expired(self) -> None:
        while True:
            time.sleep(_SWEEP_SECONDS)
            with self._lock:
                for key in [key for key in self._entries if not self._exists(key)]:
                    del self._entries[key]


__all__ = ["Registry"]
