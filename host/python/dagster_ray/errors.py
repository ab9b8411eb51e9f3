"""Every error that the package raises.

The native module raises these too: a component's error value, a refusal by policy, a trap or a
file that does not load each have a class of their own under :class:`DagsterRayError`.
"""

from typing import Any


class DagsterRayError(Exception):
    """The root of the tree.

    Details are keyword arguments, kept as attributes; one that is not known is ``None``.
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


def _rebuild(cls: type[DagsterRayError], message: str, details: dict[str, Any]) -> DagsterRayError:
    return cls(message, **details)


class InvalidConfigError(DagsterRayError):
    """The configuration is wrong. ``fields`` lists every mistake that was found."""

    _detail_names = ("fields",)
    fields: list[dict[str, Any]] | None


class NotFoundError(DagsterRayError):
    """What was named does not exist."""


class ConflictError(DagsterRayError):
    """Something of that name exists already and belongs to somebody else."""


class PermissionDeniedError(DagsterRayError):
    """The component asked for something that its grant does not allow."""

    _detail_names = ("capability", "target", "grant")
    capability: str | None
    target: str | None
    grant: str | None


class UnavailableError(DagsterRayError):
    """The service did not answer, or asked to be left alone for now."""

    _detail_names = ("retry_after", "maybe_applied")
    retry_after: float | None
    maybe_applied: bool | None


class CallTimeoutError(DagsterRayError):
    """The call did not finish in time."""

    _detail_names = ("seconds",)
    seconds: float | None


class CancelledError(DagsterRayError):
    """The caller gave up, and the call stopped."""


class UnsupportedError(DagsterRayError):
    """The component does not offer what was asked for."""


class BackendError(DagsterRayError):
    """The service refused, or failed."""

    _detail_names = ("status", "reason", "details")
    status: int | None
    reason: str | None
    details: Any


class ComponentError(DagsterRayError):
    """The component itself is at fault."""

    _detail_names = ("component", "export")
    component: str | None
    export: str | None


class ComponentTrap(ComponentError):
    """The component crashed, ran into a limit, or did not come back."""

    _detail_names = ("reason", "stderr")
    reason: str | None
    stderr: str | None


class ComponentLoadError(ComponentError):
    """The file is not a component that can be used here."""

    _detail_names = ("path",)
    path: str | None


class ScriptFailedError(DagsterRayError, RuntimeError):
    """A script ended otherwise than well. ``state`` is `failed`, `stopped` or `missing`."""

    _detail_names = ("state", "error_type", "exit_code")
    state: str | None
    error_type: str | None
    exit_code: int | None


class SerializationError(DagsterRayError):
    """A value cannot be pickled, or not be unpickled where it is needed."""


class ForkedProcessError(DagsterRayError):
    """The process was forked after the first call."""


__all__ = [
    "BackendError",
    "CallTimeoutError",
    "CancelledError",
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
