"""The actor that owns the values in Ray's object store.

It travels to the cluster by value, so that no node needs this package, and must import nothing but
Ray and the standard library. It never unpickles a value: it copies buffers from the step's objects
into objects of its own, which outlive the step, are spilled under pressure and are read without a
copy.
"""

import pickle
import threading
import time
from typing import Any

import ray

# How often entries whose time is over are let go although nobody asks.
_SWEEP_SECONDS = 30.0


class Registry:
    """Keys with the objects that hold their values. Methods run in several threads."""

    def __init__(self) -> None:
        context = ray.get_runtime_context()
        self._node = f"{ray.util.get_node_ip_address()} ({context.get_node_id()[:8]})"
        self._began = time.time()
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[dict[str, Any], Any]] = {}
        threading.Thread(target=self._let_go_for_ever, name="lifetime", daemon=True).start()

    def put(self, entry: dict[str, Any], overwrite: bool, parts: list[Any]) -> Any:
        """Keeps a value, and returns its entry; none where the key is taken."""
        if not overwrite:
            with self._lock:
                if self._is_there(entry["key"]):
                    return None
        reference = ray.put([pickle.PickleBuffer(part) for part in parts])
        entry = {**entry, "node": self._node, "stored_at": int(time.time())}
        with self._lock:
            if not overwrite and self._is_there(entry["key"]):
                return None
            self._entries[entry["key"]] = (entry, reference)
        return entry

    def get(self, key: str) -> Any:
        """The entry and, in a list so that it stays one, the reference to its parts."""
        with self._lock:
            if not self._is_there(key):
                return None
            entry, reference = self._entries[key]
            return entry, [reference]

    def read(self, key: str) -> Any:
        """The entry and its parts as bytes, for clients that share no memory with the cluster."""
        found = self.get(key)
        if found is None:
            return None
        entry, references = found
        return entry, [bytes(part) for part in ray.get(references[0])]

    def stat(self, keys: list[str]) -> list[Any]:
        """Entries in the order of the keys."""
        with self._lock:
            return [self._entries[key][0] if self._is_there(key) else None for key in keys]

    def find(self, prefix: str) -> Any:
        """Entries whose keys begin with the prefix."""
        with self._lock:
            keys = sorted(key for key in self._entries if key.startswith(prefix))
            return [self._entries[key][0] for key in keys if self._is_there(key)]

    def delete(self, keys: list[str]) -> int:
        """Removes entries, and says how many there were."""
        with self._lock:
            return sum(self._entries.pop(key, None) is not None for key in keys)

    def began(self) -> float:
        """When this registry began, in seconds since the Unix epoch."""
        return self._began

    def process(self) -> int:
        """Its process, for whoever measures it."""
        import os

        return os.getpid()

    def _is_there(self, key: str) -> bool:
        found = self._entries.get(key)
        if found is None:
            return False
        until = found[0]["keep_until"]
        return until is None or time.time() < until

    def _let_go_for_ever(self) -> None:
        while True:
            time.sleep(_SWEEP_SECONDS)
            with self._lock:
                for key in [key for key in self._entries if not self._is_there(key)]:
                    del self._entries[key]


__all__ = ["Registry"]
