"""The actor of a node, which owns the values that were stored there.

The module is pickled by value, so that no node needs this package, and must import only Ray and the
standard library. The actor does not unpickle values: it handles their buffers.

A writer's call returns when a process that outlives the writer has mapped the bytes. They survive
the writer then, but Ray cannot spill them until a process that lives has put them again. `adopt`
does that, when the node is idle or when the value is read.
"""

import contextlib
import pickle
import threading
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayActorError

if TYPE_CHECKING:
    from dagster_ray.io.entries import Entry
    from dagster_ray.io.frames import Part

# The annotations of some of Ray's functions are incomplete.
_ray: Any = ray

INLINE_BYTES = 96 * 1024
"""The largest value that travels in an actor's answer. Ray limits that to 100 KiB."""


# A node, and the process of its node actor.
Origin = tuple[str, str]
# A token, its entry and version, and either its parts or the reference to them, if there is one.
Item = tuple[str, "Entry", int, "list[bytes] | None", "list[Any] | None"]


@dataclass
class Held:
    """A value on this node. Exactly one of `parts` and `reference` is set."""

    entry: "Entry"
    # Set by the registry. A later value of the same key has a higher one.
    version: int | None
    parts: "list[Part] | None"
    # In a list, so that Ray does not replace it by the value.
    reference: list[Any] | None = None


class NodeActor:
    """Owns the values of one node. Methods run in several threads."""

    def __init__(self, registry: str, namespace: str) -> None:
        self._names = registry, namespace
        self._node = str(_ray.get_runtime_context().get_node_id())
        self._incarnation = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}
        self._adopting: dict[str, threading.Lock] = {}
        self._registry: Any = None
        # The values of an earlier process of this actor are lost.
        with contextlib.suppress(ValueError):
            self._begin("node_actor_started", self._node, self._incarnation)

    def keep(
        self, token: str, entry: "Entry", overwrite: bool, parts: "list[Part]"
    ) -> "Entry | None":
        """Stores a value of a writer on this node. Returns `None` if the key is taken."""
        small = inlined(parts)
        kept: list[Part] = list(small or parts)
        held = Held(entry, None, kept)
        with self._lock:
            # Before the registry names this node actor to readers.
            self._held[token] = held
        origin = self._node, self._incarnation, node_name()
        stored = self._ask("register", token, entry, overwrite, origin, small)
        if stored is None:
            self.drop([token])
            return None
        held.entry, held.version = stored
        return held.entry

    def back_up(self, token: str, entry: "Entry", version: int, parts: "list[Part]") -> str:
        """Keeps a copy of a small value of the registry, and returns the id of this process."""
        with self._lock:
            self._held[token] = Held(entry, version, [bytes(part) for part in parts])
        return self._incarnation

    def adopt(self, token: str) -> "list[Any] | None":
        """Puts a value again, and returns its reference, which lives as long as this actor.

        Returns `None` if the value has been overwritten or deleted.
        """
        with self._lock:
            lock = self._adopting.setdefault(token, threading.Lock())
        try:
            with lock:
                held = self._held.get(token) or self._taken(token)
                if held is None:
                    return None
                if held.reference is None:
                    parts = held.parts or []
                    held.reference = [_ray.put([pickle.PickleBuffer(part) for part in parts])]
                    held.parts = None
                if not self._ask("settle", token, held.reference):
                    self.drop([token])
                    return None
                return held.reference
        finally:
            with self._lock:
                self._adopting.pop(token, None)

    def drop(self, tokens: list[str]) -> None:
        """Forgets values."""
        with self._lock:
            for token in tokens:
                self._held.pop(token, None)

    def inventory(self) -> "tuple[Origin, list[Item]]":
        """Returns what a new registry has to know of the values here."""
        with self._lock:
            held = list(self._held.items())
        items: list[Item] = [
            (token, one.entry, one.version, inlined(one.parts or [b""]), one.reference)
            for token, one in held
            # The writers of others wait for the registry.
            if one.version is not None
        ]
        return (self._node, self._incarnation), items

    def read(self, token: str) -> "list[bytes] | None":
        """Returns the parts of a value as bytes, for clients without access to shared memory."""
        reference = self.adopt(token)
        return None if reference is None else [bytes(part) for part in _ray.get(reference[0])]

    def process(self) -> int:
        """Returns the actor's process id, for tests and benchmarks."""
        import os

        return os.getpid()

    def _taken(self, token: str) -> "Held | None":
        """Takes over a value that the registry has mapped. What it returns belongs to this actor,
        because the caller of an actor's method owns the result."""
        found, reference = self._ask_for_two("give", token, self._incarnation)
        if found is None:
            return None
        held = Held(*found, parts=None, reference=[reference])
        with self._lock:
            self._held[token] = held
        return held

    def _ask(self, method: str, *arguments: Any) -> Any:
        """Calls the registry. The one that answers may have been created meanwhile."""
        try:
            return _ray.get(self._begin(method, *arguments))
        except RayActorError:
            self._registry = None
            return _ray.get(self._begin(method, *arguments))

    def _ask_for_two(self, method: str, *arguments: Any) -> tuple[Any, Any]:
        """Calls the registry, and returns the first result and the reference of the second."""
        try:
            first, second = self._begin(method, *arguments, returns=2)
            return _ray.get(first), second
        except RayActorError:
            self._registry = None
            first, second = self._begin(method, *arguments, returns=2)
            return _ray.get(first), second

    def _begin(self, method: str, *arguments: Any, returns: int = 1) -> Any:
        if self._registry is None:
            self._registry = _ray.get_actor(*self._names)
        return getattr(self._registry, method).options(num_returns=returns).remote(*arguments)


def inlined(parts: "list[Part]") -> "list[bytes] | None":
    """Returns the parts of a small value as bytes, or `None` if the value is large."""
    size = sum(memoryview(part).nbytes for part in parts)
    return [bytes(part) for part in parts] if size <= INLINE_BYTES else None


def node_name() -> str:
    """Returns the name of this node in messages."""
    node = str(_ray.get_runtime_context().get_node_id())
    return f"{_ray.util.get_node_ip_address()} ({node[:8]})"


__all__ = ["INLINE_BYTES", "Held", "NodeActor", "inlined", "node_name"]
