"""The value registry actor: the index of all values in a Ray.

The module is pickled by value, so that no node needs this package, and must import only Ray and the
standard library. The actor does not unpickle values.

A value belongs to the actor of the node where it was made. The registry holds the reference to it,
or the value itself if it is small. On the registry's own node, a writer sends the value to the
registry, which saves a round trip: the node actor takes it over later.
"""

import pickle
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import ray
from ray.exceptions import GetTimeoutError, RayError

from dagster_ray.io.node_actor import Item, Origin, inlined, node_name

if TYPE_CHECKING:
    from dagster_ray.io.entries import Entry
    from dagster_ray.io.frames import Part

# The annotations of some of Ray's functions are incomplete.
_ray: Any = ray
# How often expired entries and those of dead nodes are removed.
_SWEEP_SECONDS = 30.0
# A value is handed over when none has been stored for this time, so that a step which stores
# several does not wait for copies.
_QUIET_SECONDS = 0.2
# Values are handed over at once when they have waited for this time, or are this many bytes,
# because Ray cannot spill them before.
_PENDING_SECONDS = 2.0
_PENDING_BYTES = 512 << 20
# How many lost values have an explanation.
_EXPLAINED = 10_000
_INVENTORY_SECONDS = 30.0


class Found(TypedDict):
    """What the registry knows of a key."""

    entry: "Entry"
    token: str
    # The id of the node.
    node: str
    # The parts of a small value.
    parts: "list[bytes] | None"
    # In a list, so that Ray does not replace it by the value. `None`: ask the node actor.
    reference: "list[Any] | None"


@dataclass
class _Value:
    entry: "Entry"
    token: str
    version: int
    node: str
    # Identifies the process of the node actor. `None`: it has not taken over the value.
    incarnation: str | None
    parts: "list[Part] | None"
    reference: "list[Any] | None"


class Registry:
    """Maps keys to values. Methods run in several threads."""

    def __init__(self, prefix: str, namespace: str) -> None:
        self._prefix = prefix
        self._namespace = namespace
        self._node = str(_ray.get_runtime_context().get_node_id())
        self._node_name = node_name()
        self._began = time.time()
        self._lock = threading.RLock()
        self._values: dict[str, _Value] = {}
        self._keys: dict[str, str] = {}
        self._lost: OrderedDict[str, str] = OrderedDict()
        # The tokens of values that the actor of this node has not taken over, with their times.
        self._pending: OrderedDict[str, float] = OrderedDict()
        self._last_put = 0.0
        self._wake = threading.Event()
        self._handles: dict[str, Any] = {}
        self._version = 0
        # Values with a higher version were stored here, later than all that node actors report.
        self._learned = 1 << 62
        self._silent = self._node_actors()
        self._collect()
        self._learned = self._version
        threading.Thread(target=self._hand_over, name="hand over", daemon=True).start()
        threading.Thread(target=self._sweep, name="sweep", daemon=True).start()

    def put(
        self, token: str, entry: "Entry", overwrite: bool, parts: "list[Part]"
    ) -> "Entry | None":
        """Stores a value, and returns its entry, or `None` if the key is taken."""
        small = inlined(parts)
        origin = self._node, None, self._node_name
        added = self._add(token, entry, overwrite, origin, small or parts)
        if added is None:
            return None
        with self._lock:
            self._last_put = time.monotonic()
            self._pending[token] = self._last_put
        self._wake.set()
        return added.entry

    def register(
        self,
        token: str,
        entry: "Entry",
        overwrite: bool,
        origin: "tuple[str, str, str]",
        parts: "list[bytes] | None",
    ) -> "tuple[Entry, int] | None":
        """Registers a value that a node actor holds, and returns entry and version.

        Returns `None` if the key is taken. `parts` are those of a small value.
        """
        added = self._add(token, entry, overwrite, origin, parts)
        return None if added is None else (added.entry, added.version)

    def settle(self, token: str, reference: "list[Any]") -> bool:
        """Replaces the parts of a value by the reference of its node actor.

        Returns false if the value has been overwritten or deleted.
        """
        with self._lock:
            value = self._values.get(self._keys.get(token, ""))
            if value is None:
                return False
            value.reference, value.parts = reference, None
            self._pending.pop(token, None)
            return True

    def give(self, token: str, incarnation: str) -> "tuple[tuple[Entry, int] | None, list[Any]]":
        """Returns entry, version and parts of a value to the node actor that takes it over."""
        with self._lock:
            value = self._values.get(self._keys.get(token, ""))
            if value is None or value.parts is None:
                return None, []
            value.incarnation = incarnation
            parts = value.parts
        return (value.entry, value.version), [pickle.PickleBuffer(part) for part in parts]

    def get(self, key: str) -> "Found | str | None":
        """Returns what is known of a key, the reason why its value was lost, or `None`."""
        with self._lock:
            if not self._exists(key):
                return self._lost.get(key)
            value = self._values[key]
            return {
                "entry": value.entry,
                "token": value.token,
                "node": value.node,
                "parts": inlined(value.parts) if value.parts else None,
                "reference": value.reference,
            }

    def read(self, key: str) -> "list[bytes] | None":
        """Returns the parts of a value as bytes, for clients without access to shared memory.

        Returns `None` if only the actor of its node can.
        """
        with self._lock:
            value = self._values.get(key)
            if value is None:
                return None
            parts, reference = value.parts, value.reference
        if parts is None:
            parts = None if reference is None else _ray.get(reference[0])
        return None if parts is None else [bytes(part) for part in parts]

    def stat(self, keys: list[str]) -> "list[Entry | None]":
        """Returns the entries of keys, in order. A missing value is `None`."""
        with self._lock:
            return [self._values[key].entry if self._exists(key) else None for key in keys]

    def find(self, prefix: str) -> "list[Entry]":
        """Returns the entries whose keys begin with a prefix, sorted by key."""
        with self._lock:
            keys = sorted(key for key in self._values if key.startswith(prefix))
            return [self._values[key].entry for key in keys if self._exists(key)]

    def delete(self, keys: list[str]) -> int:
        """Removes values, and returns how many existed."""
        with self._lock:
            return sum(self._remove(key) for key in keys)

    def lost(self, key: str, token: str, reason: str) -> None:
        """Removes a value that a reader could not read, and remembers why."""
        with self._lock:
            value = self._values.get(key)
            if value is not None and value.token == token:
                self._lose(value, reason)

    def node_actor_started(self, node: str, incarnation: str) -> None:
        """Removes the values of an earlier process of a node actor."""
        with self._lock:
            for value in list(self._values.values()):
                if value.node != node or value.incarnation in (None, incarnation):
                    continue
                if value.parts is None:
                    self._lose(value, "the process that kept it has died")

    def began(self) -> float:
        """Returns when this actor started, in seconds since the Unix epoch."""
        return self._began

    def place(self) -> str:
        """Returns the id of this actor's node."""
        return self._node

    def process(self) -> int:
        """Returns the actor's process id, for tests and benchmarks."""
        import os

        return os.getpid()

    def _add(
        self,
        token: str,
        entry: "Entry",
        overwrite: bool,
        origin: "tuple[str, str | None, str]",
        parts: "list[Part] | list[bytes] | None",
    ) -> "_Value | None":
        node, incarnation, name = origin
        key = entry["key"]
        with self._lock:
            if self._exists(key):
                old = self._values[key]
                if old.token == token:
                    # Ray has repeated the call, because it lost the answer.
                    return old
                if not overwrite:
                    return None
            self._remove(key)
            self._version += 1
            entry = {**entry, "node": name, "stored_at": int(time.time())}
            kept = None if parts is None else list(parts)
            value = _Value(entry, token, self._version, node, incarnation, kept, None)
            self._values[key], self._keys[token] = value, key
            self._lost.pop(key, None)
            return value

    def _exists(self, key: str) -> bool:
        value = self._values.get(key)
        if value is None:
            return False
        until = value.entry["keep_until"]
        return until is None or time.time() < until

    def _remove(self, key: str) -> bool:
        value = self._values.pop(key, None)
        if value is None:
            return False
        self._keys.pop(value.token, None)
        self._pending.pop(value.token, None)
        if (
            value.incarnation is not None
            and (node_actor := self._node_actor(value.node)) is not None
        ):
            # Before the caller's answer, so that a restart does not bring the old value back.
            node_actor.drop.remote([value.token])
        return True

    def _lose(self, value: "_Value", reason: str) -> None:
        self._remove(value.entry["key"])
        self._lost[value.entry["key"]] = f"it was on node {value.entry['node']}, but {reason}"
        if len(self._lost) > _EXPLAINED:
            self._lost.popitem(last=False)

    def _node_actor(self, node: str) -> Any:
        if node not in self._handles:
            try:
                handle = _ray.get_actor(self._prefix + node, self._namespace)
            except ValueError:
                return None
            self._handles[node] = handle
        return self._handles[node]

    def _node_actors(self) -> list[Any]:
        named: list[dict[str, str]] = _ray.util.list_named_actors(all_namespaces=True)
        found = [
            one["name"].removeprefix(self._prefix)
            for one in named
            if one["namespace"] == self._namespace and one["name"].startswith(self._prefix)
        ]
        return [node_actor for node_actor in map(self._node_actor, found) if node_actor is not None]

    def _collect(self) -> None:
        """Learns from node actors what an earlier registry knew."""
        silent: list[Any] = []
        for node_actor in self._silent:
            try:
                origin, items = _ray.get(node_actor.inventory.remote(), timeout=_INVENTORY_SECONDS)
            except GetTimeoutError:
                silent.append(node_actor)
            except RayError:
                # Its node or its process has died, and its values with it.
                continue
            else:
                self._learn(node_actor, origin, items)
        self._silent = silent

    def _learn(self, node_actor: Any, origin: Origin, items: list[Item]) -> None:
        with self._lock:
            for token, entry, version, parts, reference in items:
                key = entry["key"]
                known = self._values.get(key)
                if known is not None and known.version > min(version, self._learned):
                    node_actor.drop.remote([token])
                    continue
                self._remove(key)
                self._version = max(self._version, version)
                kept: Any = None if reference else parts
                self._values[key] = _Value(entry, token, version, *origin, kept, reference)
                self._keys[token] = key

    def _hand_over(self) -> None:
        """Lets the actor of this node take over values."""
        while True:
            if not self._pending:
                self._wake.wait()
            self._wake.clear()
            time.sleep(_QUIET_SECONDS / 2)
            now = time.monotonic()
            with self._lock:
                pending = [self._values[self._keys[token]] for token in self._pending]
                size = sum(value.entry["size"] or 0 for value in pending)
                is_quiet = now - self._last_put >= _QUIET_SECONDS
                is_late = any(now - since > _PENDING_SECONDS for since in self._pending.values())
            if pending and (is_quiet or is_late or size > _PENDING_BYTES):
                self._hand_over_to(self._node_actor(self._node), pending)

    def _hand_over_to(self, node_actor: Any, pending: "list[_Value]") -> None:
        if node_actor is None:
            # The next writer creates it.
            time.sleep(_QUIET_SECONDS)
            return
        for value in pending:
            parts = value.parts
            try:
                if parts is not None and (small := inlined(parts)) is not None:
                    incarnation = _ray.get(
                        node_actor.back_up.remote(value.token, value.entry, value.version, small)
                    )
                    with self._lock:
                        value.incarnation = incarnation
                        self._pending.pop(value.token, None)
                        if value.token not in self._keys:
                            node_actor.drop.remote([value.token])
                else:
                    _ray.get(node_actor.adopt.remote(value.token))
            except RayError:
                # The node actor restarts, or was killed. The value stays pending.
                self._handles.pop(self._node, None)
                time.sleep(_QUIET_SECONDS)
                return

    def _sweep(self) -> None:
        while True:
            time.sleep(_SWEEP_SECONDS)
            alive = {node["NodeID"] for node in _ray.nodes() if node["Alive"]}
            with self._lock:
                for key in [key for key in self._values if not self._exists(key)]:
                    self._remove(key)
                for value in list(self._values.values()):
                    if value.node not in alive and value.parts is None:
                        self._lose(value, "the node has left Ray")
            self._collect()


__all__ = ["Found", "Registry"]
