"""Connects this process to Ray."""

import os
import socket
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from dagster_ray.errors import UnsupportedError

# How long a failed connection is retried. The first connection to a Ray Client server may fail.
CONNECT_SECONDS = 120.0
_PAUSE_SECONDS = 1.0
_PROBE_SECONDS = 2.0


_AUTH_MODE = "RAY_AUTH_MODE"
_AUTH_TOKEN = "RAY_AUTH_TOKEN"
_TOKEN_VARIABLES = (_AUTH_MODE, _AUTH_TOKEN)

# Whether this process is a worker of Ray and executes a step.
_executes_task = False


class TaskConnection:
    """The connection of a step that is a Ray task. It belongs to the process, not to the step."""

    def __init__(self, address: str | None) -> None:
        import ray

        context = cast(Any, ray).get_runtime_context()
        if address not in (None, "auto", "local", context.gcs_address):
            raise UnsupportedError(
                f"this step is a Ray task and can use only the Ray of its run, not {address}; "
                'give the op the tag "dagster-ray/config": {"isolation": "job"}'
            )

    def disconnect(self) -> None:
        """Does nothing: a worker without its connection cannot execute further steps."""


@contextmanager
def task() -> Generator[None]:
    """Marks this process as one that executes a step as a Ray task."""
    global _executes_task
    _executes_task = True
    try:
        yield
    finally:
        _executes_task = False


def connect(address: str | None = None, *, seconds: float = CONNECT_SECONDS, **options: Any) -> Any:
    """Connects to Ray, and returns the context of `ray.init`.

    Without an address, it connects to the cluster of this Ray job, of RAY_ADDRESS, or of this
    machine, where Ray is started if none runs. ``options`` are arguments of `ray.init`.
    """
    import ray

    if _executes_task:
        return TaskConnection(address)
    if address is None and not os.environ.get("RAY_ADDRESS") and _is_recorded_ray_dead():
        # `ray.init` would silently wait minutes for it.
        address = "local"
    # The annotations of `ray.init` are incomplete.
    initialize = cast(Any, ray).init
    deadline = time.monotonic() + seconds
    while True:
        try:
            return initialize(address=address, **options)
        except ConnectionError:
            # Without an address there is no remote Ray that may start later.
            if address in (None, "local") or time.monotonic() >= deadline:
                raise
        time.sleep(_PAUSE_SECONDS)


@contextmanager
def authenticated(token: str | None) -> Generator[None]:
    """Lets this process authenticate to Ray with a token, if there is one, while it is connected.

    Ray reads the variables once. It has to read them again if its library is loaded.
    """
    if token is None:
        yield
        return
    before = {name: os.environ.get(name) for name in _TOKEN_VARIABLES}
    os.environ |= {_AUTH_MODE: "token", _AUTH_TOKEN: token}
    _read_token()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _read_token()


def _read_token() -> None:
    if "ray._raylet" not in sys.modules:
        return
    raylet: Any = sys.modules["ray._raylet"]
    # Ray 2.51 and earlier have no authentication.
    if hasattr(raylet, "AuthenticationTokenLoader"):
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()


def is_connected() -> bool:
    """Whether this process is connected to a Ray."""
    if "ray" not in sys.modules:
        return False
    import ray

    return ray.is_initialized()


def get_current_job_id() -> str:
    """Returns the id of this process's Ray job, which must be connected to Ray."""
    import ray

    return ray.get_runtime_context().get_job_id()


def _is_recorded_ray_dead() -> bool:
    """Whether the Ray that the file `ray_current_cluster` names refuses connections.

    Ray writes the file into its temporary directory, and removes it only on a clean shutdown.
    """
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    try:
        recorded = Path(folder, "ray", "ray_current_cluster").read_text().strip()
        host, _, port = recorded.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=_PROBE_SECONDS):
            return False
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True


__all__ = [
    "CONNECT_SECONDS",
    "TaskConnection",
    "authenticated",
    "connect",
    "get_current_job_id",
    "is_connected",
    "task",
]
