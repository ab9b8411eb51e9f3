"""Connects the process that executes a run to the Ray that executes its steps as tasks."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

from dagster_ray import ray_access
from dagster_ray.address import CLIENT_PORT, known_address
from dagster_ray.configs import BackendConfig
from dagster_ray.errors import InvalidConfigError, UnavailableError
from dagster_ray.ray_access import in_ray_job
from dagster_ray.ray_connection import CONNECT_SECONDS


@contextmanager
def connected(config: BackendConfig) -> Generator[None]:
    """Connects this process to Ray while the context is open, unless it is connected already.

    A run worker in Ray uses the Ray of its own job. Any other process uses the configured address.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    address = None if in_ray_job() else _address(config)
    with _own_signal_handlers():
        try:
            ray_access.current().connect(lambda: address, seconds=CONNECT_SECONDS)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UnavailableError(
                "isolation: this process could not connect to "
                f"{address or 'Ray on this machine'} to execute steps as Ray tasks: {error}. "
                "Launch the run with RayRunLauncher, or set `isolation: job`."
            ) from error
    try:
        yield
    finally:
        with _own_signal_handlers():
            cast(Any, ray).shutdown()


def _address(config: BackendConfig) -> str | None:
    known = known_address(config.address)
    if config.backend == "local" or known is None or known[0] == "local":
        return None
    address, origin = known
    if "://" not in address or address.startswith("ray://"):
        return address
    problem = f"`{address}` accepts jobs only, and this process is not in a Ray job"
    hint = (
        "launch the run with RayRunLauncher, or write the address as "
        f"ray://<head>:{CLIENT_PORT}, or set `isolation: job`"
    )
    raise InvalidConfigError(
        f"isolation: {origin} {problem}; {hint}",
        fields=[{"path": origin, "problem": problem, "hint": hint}],
    )


@contextmanager
def _own_signal_handlers() -> Generator[None]:
    """Restores Dagster's handler of SIGTERM, which `ray.init` replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


__all__ = ["connected"]
