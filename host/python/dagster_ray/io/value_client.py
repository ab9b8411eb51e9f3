"""The client of the component that stores values."""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dagster_ray.backend import built_in, declared_settings, listener, native, resolve_component
from dagster_ray.io.entries import Store
from dagster_ray.io.frames import Frames

if TYPE_CHECKING:
    from dagster_ray._native import Component

_DEFAULT = "object-store"


class ValueClient:
    """Calls the `io` functions of a component. Thread-safe."""

    def __init__(
        self,
        backend: str | None,
        config: Mapping[str, Any],
        stores: Mapping[str, Store],
        restriction: Mapping[str, str | None],
    ) -> None:
        self._wasm = resolve_component(backend) if backend else built_in(_DEFAULT)
        self._config = dict(config)
        self._stores = dict(stores)
        self._restriction = dict(restriction)
        self._lock = threading.Lock()
        self._loaded: tuple[Component, dict[str, Any]] | None = None

    def save(self, address: Mapping[str, Any], frames: Frames) -> dict[str, Any]:
        """Stores a value, and returns its metadata."""
        component, options = self._component()
        arguments = {"address": address, "value": 0, "options": json.dumps(options)}
        call = component.start("io.save", json.dumps(arguments), listener(), None, [frames])
        return json.loads(call.result())

    def load(self, address: Mapping[str, Any]) -> Frames:
        """Loads a value."""
        component, options = self._component()
        arguments = {"address": address, "options": json.dumps(options)}
        call = component.start("io.load", json.dumps(arguments), listener())
        call.result()
        return call.values()[0]

    def load_many(
        self, addresses: Sequence[Mapping[str, Any]], **more: Any
    ) -> list[tuple[str, Frames]]:
        """Loads the values of many partitions, as pairs of partition and value."""
        component, options = self._component()
        arguments = {"addresses": addresses, "options": json.dumps(options | more)}
        call = component.start("io.load-many", json.dumps(arguments), listener())
        names = json.loads(call.result())["partitions"]
        return list(zip(names, call.values(), strict=True))

    def find(self, **selection: Any) -> list[dict[str, Any]]:
        """Lists the stored values that the selection matches."""
        return self._select("list", selection)

    def delete(self, **selection: Any) -> int:
        """Removes the values that the selection matches, and returns their number."""
        return self._select("delete", selection)

    def _select(self, function: str, selection: Mapping[str, Any]) -> Any:
        component, options = self._component()
        arguments = {"selection": selection, "options": json.dumps(options)}
        return json.loads(component.call(f"io.{function}", json.dumps(arguments), listener()))

    def _component(self) -> "tuple[Component, dict[str, Any]]":
        with self._lock:
            if self._loaded is None:
                settings = (
                    declared_settings(self._wasm, self._config, self._restriction)
                    if self._config
                    else {}
                )
                component = native().Component(
                    self._wasm,
                    settings=settings,
                    authorities=[],
                    programs={},
                    directories=[],
                    stores=self._stores,
                    **self._restriction,
                )
                options = {k: v for k, v in self._config.items() if k not in settings}
                self._loaded = component, options
            return self._loaded


class Throttle:
    """A throttle that allows an action at most once per interval."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last: float | None = None
        self._lock = threading.Lock()

    def is_due(self) -> bool:
        """Whether the action may run now. Starts a new interval if so."""
        with self._lock:
            now = time.monotonic()
            if self._last is not None and now - self._last < self._seconds:
                return False
            self._last = now
            return True


__all__ = ["Throttle", "ValueClient"]
