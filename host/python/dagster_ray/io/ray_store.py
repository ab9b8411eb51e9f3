"""A value store in Ray's object store."""

import pickle
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, cast

from dagster_ray.errors import BackendError, NotFoundError, UnavailableError
from dagster_ray.io.entries import Entry, conflict, new_entry
from dagster_ray.io.frames import Frames, Part
from dagster_ray.io.value_actors import TRIES, actor_of_node, registry_actor
from dagster_ray.ray_connection import CONNECT_SECONDS, connect


class RayStore:
    """Stores values in Ray's object store, owned by detached actors. Connects on first use.

    A component keeps its stores, and Python's garbage collector cannot see that. A store must not
    refer to the object that owns the component.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._lock = threading.Lock()
        # The actors, by name, and the Ray job that their handles belong to.
        self._actors: dict[str, Any] = {}
        self._job: str | None = None
        # The node of this process, and that of the registry.
        self._nodes: tuple[str, str] | None = None

    def connect(self, seconds: float = CONNECT_SECONDS) -> None:
        """Connects this process to Ray, unless it is connected."""
        import ray

        if not ray.is_initialized():
            connect(self._address, seconds=seconds, ignore_reinit_error=True, log_to_driver=False)

    def put(
        self,
        key: str,
        frames: Frames,
        overwrite: bool,
        keep_until: int | None,
        attributes: Mapping[str, str],
    ) -> Entry:
        entry = new_entry(key, frames, keep_until, attributes)
        self.connect()
        if _is_client():
            parts: list[Any] = [bytes(part) for part in frames.parts]
        else:
            parts = [pickle.PickleBuffer(part) for part in frames.parts]
        stored = self._put(uuid.uuid4().hex, entry, overwrite, parts)
        if stored is None:
            raise conflict(key, "the Ray cluster")
        return stored

    def get(self, key: str) -> Frames:
        self.connect()
        for _ in range(TRIES):
            found = self._call_registry("get", key)
            if found is None:
                began = time.gmtime(self._call_registry("began"))
                text = time.strftime("%Y-%m-%d %H:%M:%S UTC", began)
                raise NotFoundError(f"this Ray's values are kept since {text}")
            if isinstance(found, str):
                raise NotFoundError(f"the value was lost: {found}")
            parts = self._parts(key, found)
            # Otherwise the value was overwritten or deleted meanwhile.
            if parts is not None:
                return Frames(found["entry"]["type_name"], parts)
        raise UnavailableError(f"the value {key} changes faster than it can be read")

    def stat(self, keys: Sequence[str]) -> list[Entry | None]:
        return self._call_registry("stat", list(keys))

    def find(self, prefix: str) -> list[Entry]:
        return self._call_registry("find", prefix)

    def delete(self, keys: Sequence[str]) -> int:
        return self._call_registry("delete", list(keys))

    def _put(self, token: str, entry: Entry, overwrite: bool, parts: list[Any]) -> Entry | None:
        here, registry = self._places()
        # Also creates the node actor to which the registry hands over.
        self._actor(here)
        if here == registry:
            return self._call_registry("put", token, entry, overwrite, parts)
        return self._call(here, "keep", token, entry, overwrite, parts)

    def _parts(self, key: str, found: Any) -> "Sequence[Part] | None":
        """Returns the parts of a value that the registry has found."""
        import ray
        from ray import exceptions

        if found["parts"] is not None:
            return found["parts"]
        reference, node, token = found["reference"], found["node"], found["token"]
        try:
            if _is_client():
                parts = self._call_registry("read", key)
                return parts if parts is not None else self._call(node, "read", token)
            if reference is None:
                reference = self._call(node, "adopt", token)
            return None if reference is None else cast("list[Part]", ray.get(reference[0]))
        except (exceptions.ObjectLostError, UnavailableError) as error:
            reason = "the process that kept it or the whole node has ended"
            self._call_registry("lost", key, token, reason)
            raise NotFoundError(
                f"Ray lost the value, which was on node {found['entry']['node']}: {reason}: "
                f"{type(error).__name__}"
            ) from error

    def _places(self) -> tuple[str, str]:
        """Returns the ids of this process's node and of the registry's."""
        import ray

        self._forget_other_connection()
        if self._nodes is None:
            registry = self._call_registry("place")
            here = registry if _is_client() else ray.get_runtime_context().get_node_id()
            self._nodes = here, registry
        return self._nodes

    def _call_registry(self, method: str, *arguments: Any) -> Any:
        return self._call(None, method, *arguments)

    def _call(self, node: str | None, method: str, *arguments: Any) -> Any:
        """Calls the actor of a node, or the registry."""
        import ray
        from ray import exceptions

        self.connect()
        for remaining in reversed(range(TRIES)):
            actor = self._actor(node)
            try:
                return ray.get(getattr(actor, method).remote(*arguments))
            except (exceptions.RayActorError, exceptions.ActorUnschedulableError) as error:
                self._forget()
                if not remaining:
                    raise UnavailableError(
                        f"the {_title(node)} died during {TRIES} attempts: {error}",
                        maybe_applied=True,
                    ) from error
            except exceptions.RayTaskError as error:
                raise BackendError(
                    f"the {_title(node)} failed: {error.cause}", reason="RegistryFailed"
                ) from error
        raise AssertionError("unreachable")

    def _actor(self, node: str | None) -> Any:
        self._forget_other_connection()
        name = node or ""
        with self._lock:
            if name not in self._actors:
                self._actors[name] = (
                    registry_actor()
                    if node is None
                    else actor_of_node(node, create=node in (self._nodes or ()))
                )
            return self._actors[name]

    def _forget_other_connection(self) -> None:
        import ray

        # An actor handle is valid only for the connection that created it.
        job = ray.get_runtime_context().get_job_id()
        if job != self._job:
            self._forget()
            self._job = job

    def _forget(self) -> None:
        with self._lock:
            self._actors.clear()
            self._nodes = None


def _title(node: str | None) -> str:
    return "value registry actor" if node is None else f"actor of values on node {node}"


def _is_client() -> bool:
    from ray.util.client import ray as client

    return cast(Any, client).is_connected()


__all__ = ["RayStore"]
