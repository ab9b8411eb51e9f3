"""A value store in Ray's object store."""

import pickle
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from dagster_ray.errors import BackendError, NotFoundError, UnavailableError
from dagster_ray.io.entries import Entry, conflict, new_entry
from dagster_ray.io.frames import Frames, Part
from dagster_ray.ray_connection import connect

NAMESPACE = "dagster-ray"
REGISTRY = "dagster-ray-values"

# Threads of the registry actor. Large values are copied concurrently and do not block lookups.
_THREADS = 16
# Attempts of a request, each on a new registry actor if the previous one died.
_TRIES = 3


class RayStore:
    """Stores values in Ray's object store, owned by a detached actor. Connects on first use.

    A component keeps its stores, and Python's garbage collector cannot see that. A store must not
    refer to the object that owns the component.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._actor: tuple[str, Any] | None = None

    def connect(self) -> None:
        """Connects this process to Ray, unless it is connected."""
        import ray

        if not ray.is_initialized():
            connect(self._address, ignore_reinit_error=True, log_to_driver=False)

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
        stored = self._call_registry("put", entry, overwrite, parts)
        if stored is None:
            raise conflict(key, "the Ray cluster")
        return stored

    def get(self, key: str) -> Frames:
        import ray
        from ray import exceptions

        self.connect()
        found = self._call_registry("read" if _is_client() else "get", key)
        if found is None:
            began = time.strftime(
                "%Y-%m-%d %H:%M:%S UTC", time.gmtime(self._call_registry("began"))
            )
            raise NotFoundError(f"this Ray's values are kept since {began}")
        entry, content = found
        if _is_client():
            return Frames(entry["type_name"], content)
        try:
            return Frames(entry["type_name"], cast("list[Part]", ray.get(content[0])))
        except exceptions.ObjectLostError as error:
            raise NotFoundError(
                "Ray lost the value, because the registry actor or the node that stored it has "
                f"ended: {type(error).__name__}"
            ) from error

    def stat(self, keys: Sequence[str]) -> list[Entry | None]:
        return self._call_registry("stat", list(keys))

    def find(self, prefix: str) -> list[Entry]:
        return self._call_registry("find", prefix)

    def delete(self, keys: Sequence[str]) -> int:
        return self._call_registry("delete", list(keys))

    def _call_registry(self, method: str, *arguments: Any) -> Any:
        import ray
        from ray import exceptions

        self.connect()
        for remaining in reversed(range(_TRIES)):
            actor = self._registry()
            try:
                return ray.get(getattr(actor, method).remote(*arguments))
            except exceptions.RayActorError as error:
                with self._lock:
                    self._actor = None
                if not remaining:
                    raise UnavailableError(
                        f"the value registry actor died during {_TRIES} attempts: {error}",
                        maybe_applied=True,
                    ) from error
            except exceptions.RayTaskError as error:
                raise BackendError(
                    f"the value registry actor failed: {error.cause}", reason="RegistryFailed"
                ) from error
        raise AssertionError("unreachable")

    def _registry(self) -> Any:
        import ray

        with self._lock:
            # An actor handle is valid only for the connection that created it.
            job = ray.get_runtime_context().get_job_id()
            if self._actor is None or self._actor[0] != job:
                self._actor = (job, _actor())
            return self._actor[1]


def _actor() -> Any:
    import ray
    from ray import cloudpickle

    from dagster_ray.io import registry

    # Nodes of a cluster may not have this package installed.
    cast(Any, cloudpickle).register_pickle_by_value(registry)
    return (
        ray.remote(registry.Registry)
        .options(
            name=REGISTRY,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_concurrency=_THREADS,
            max_restarts=-1,
            max_task_retries=_TRIES,
        )
        .remote()
    )


def _is_client() -> bool:
    from ray.util.client import ray as client

    return cast(Any, client).is_connected()


__all__ = ["NAMESPACE", "REGISTRY", "RayStore"]
