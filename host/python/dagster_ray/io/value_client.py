"""The client of the component that stores values."""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from typing_extensions import Unpack

from dagster_ray.backend import Pending, listener
from dagster_ray.component_files import (
    Restriction,
    built_in,
    declared_settings,
    native,
    resolve_component,
    setting_texts,
)
from dagster_ray.contract import (
    Address,
    CallOptions,
    IoClient,
    IoContext,
    ListenerOptions,
    Selection,
    Stored,
)
from dagster_ray.errors import UnsupportedError
from dagster_ray.io.entries import Store
from dagster_ray.io.frames import Frames
from dagster_ray.telemetry import observe

if TYPE_CHECKING:
    from dagster_ray._native import Component

_DEFAULT = "object-store"


class ValueClient:
    """Calls the `io` functions of a component. Thread-safe."""

    def __init__(
        self,
        backend: str | None,
        config: Mapping[str, object],
        stores: Mapping[str, Store],
        restriction: Restriction,
        deployment: str,
        is_in_ray: bool = False,
    ) -> None:
        self.is_in_ray = is_in_ray
        """Whether the component stores values in Ray's object store."""
        self._wasm = resolve_component(backend) if backend else built_in(_DEFAULT)
        self._config = dict(config)
        self._stores = dict(stores)
        self._restriction = restriction
        self._deployment = deployment
        self._lock = threading.Lock()
        self._loaded: tuple[IoClient[Frames], dict[str, Any]] | None = None

    def save(self, address: Address, frames: Frames) -> Stored:
        """Stores a value, and returns its metadata."""
        component, options = self._component()
        return component.save(address, frames, self._context(options))

    def load(self, address: Address) -> Frames:
        """Loads a value."""
        component, options = self._component()
        return component.load(address, self._context(options))

    def load_many(self, addresses: Sequence[Address], **more: object) -> list[tuple[str, Frames]]:
        """Loads the values of many partitions, as pairs of partition and value.

        `more` are options that take precedence over the configured ones.
        """
        component, options = self._component()
        return component.load_many(addresses, self._context(options | more))

    def find(self, selection: Selection) -> list[Stored]:
        """Lists the stored values that the selection matches."""
        component, options = self._component()
        return component.list_(selection, self._context(options))

    def delete(self, selection: Selection) -> int:
        """Removes the values that the selection matches, and returns their number."""
        component, options = self._component()
        return component.delete(selection, self._context(options))

    def _context(self, options: Mapping[str, object]) -> IoContext:
        return {"deployment": self._deployment, "options": json.dumps(options)}

    def _component(self) -> tuple[IoClient[Frames], dict[str, Any]]:
        with self._lock:
            if self._loaded is None:
                declared = (
                    declared_settings(self._wasm, self._restriction) if self._config else set[str]()
                )
                settings = setting_texts(self._config, declared)
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
                self._loaded = IoClient(_ValueCalls(component)), options
            return self._loaded


class _ValueCalls:
    """Calls a component, and passes values to it and back. They are not JSON data."""

    def __init__(self, component: "Component") -> None:
        self._component = component

    def call(
        self, export: str, arguments: Mapping[str, object], **options: Unpack[ListenerOptions]
    ) -> object:
        _refuse_directories(options)
        report = listener(options.get("write"), options.get("output"))
        timeout = options.get("timeout")
        observation = observe(self._component, export, arguments)
        call = self._component.start(export, json.dumps(arguments), report, timeout, here=True)
        return Pending(call, observation).result()

    def call_with_values(
        self,
        export: str,
        arguments: Mapping[str, object],
        values: Sequence[Frames],
        **options: Unpack[CallOptions],
    ) -> tuple[object, Sequence[Frames]]:
        _refuse_directories(options)
        report, timeout = listener(options.get("write")), options.get("timeout")
        observation = observe(self._component, export, arguments)
        call = self._component.start(export, json.dumps(arguments), report, timeout, list(values))
        return Pending(call, observation).result(), call.values()


def _refuse_directories(options: CallOptions) -> None:
    if any(True for _ in options.get("directories", ())):
        raise UnsupportedError("a component that stores values reads no local directory")


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
