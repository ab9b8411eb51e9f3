"""All exceptions that the package raises.

The native module raises them too: a component's error value, a denied capability, a trap and a file
that does not load each have their own class under :class:`DagsterRayError`.
"""

from typing import Any

from dagster_ray.contract import FieldError


class DagsterRayError(Exception):
    """The base class of all exceptions.

    Details are keyword arguments, available as attributes. An unknown detail is ``None``.
    """

    message: str

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self._details = details
        for cls in type(self).__mro__:
            for name in vars(cls).get("_detail_names", ()):
                setattr(self, name, None)
        for name, value in details.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self._details))


def _rebuild(
    cls: type[DagsterRayError], message: str, details: dict[str, object]
) -> DagsterRayError:
    return cls(message, **details)


class InvalidConfigError(DagsterRayError):
    """The configuration is invalid. ``fields`` lists every invalid field."""

    _detail_names = ("fields",)
    fields: list[FieldError] | None


class NotFoundError(DagsterRayError):
    """The named object does not exist."""


class ConflictError(DagsterRayError):
    """An object of that name exists and has another owner."""


class PermissionDeniedError(DagsterRayError):
    """The component requested something that its grants do not allow.

    Also: a value in run config, in a run tag or in code that the instance's policy does not allow.
    """

    _detail_names = ("capability", "target", "grant")
    capability: str | None
    target: str | None
    grant: str | None


class UnavailableError(DagsterRayError):
    """The service did not respond, or asked to retry later."""

    _detail_names = ("retry_after", "maybe_applied")
    retry_after: float | None
    maybe_applied: bool | None


class CallTimeoutError(DagsterRayError, TimeoutError):
    """The call did not finish in time."""

    _detail_names = ("seconds",)
    seconds: float | None


class CancelledError(DagsterRayError):
    """The caller canceled the call."""


class UnsupportedError(DagsterRayError):
    """The component does not support the requested operation."""


class BackendError(DagsterRayError, RuntimeError):
    """The service rejected the request, or failed."""

    _detail_names = ("status", "reason", "details")
    status: int | None
    reason: str | None
    details: Any


class ClusterNotReadyError(BackendError, TimeoutError):
    """A cluster was not ready in time, and the reason is known."""


class ComponentError(DagsterRayError):
    """The component is faulty."""

    _detail_names = ("component", "export")
    component: str | None
    export: str | None


class ComponentTrap(ComponentError):
    """The component crashed, exceeded a limit, or did not return."""

    _detail_names = ("reason", "stderr")
    reason: str | None
    stderr: str | None


class ComponentLoadError(ComponentError):
    """The file is not a component that this host can load."""

    _detail_names = ("path",)
    path: str | None


class ScriptFailedError(DagsterRayError, RuntimeError):
    """A script did not succeed. ``state`` is `failed`, `stopped` or `missing`."""

    _detail_names = ("state", "error_type", "exit_code")
    state: str | None
    error_type: str | None
    exit_code: int | None


class SerializationError(DagsterRayError):
    """A value cannot be pickled, or cannot be unpickled in the step that loads it."""


class ForkedProcessError(DagsterRayError):
    """The process was forked from one that had already called a component."""


__all__ = [
    "BackendError",
    "CallTimeoutError",
    "CancelledError",
    "ClusterNotReadyError",
    "ComponentError",
    "ComponentLoadError",
    "ComponentTrap",
    "ConflictError",
    "DagsterRayError",
    "ForkedProcessError",
    "InvalidConfigError",
    "NotFoundError",
    "PermissionDeniedError",
    "ScriptFailedError",
    "SerializationError",
    "UnavailableError",
    "UnsupportedError",
]
