"""Connects this process to Ray."""

import os
import socket
import tempfile
import time
from pathlib import Path
from typing import Any, cast

# How long a failed connection is retried. The first connection to a Ray Client server may fail.
CONNECT_SECONDS = 120.0
_PAUSE_SECONDS = 1.0
_PROBE_SECONDS = 2.0


def connect(address: str | None = None, *, seconds: float = CONNECT_SECONDS, **options: Any) -> Any:
    """Connects to Ray, and returns the context of `ray.init`.

    Without an address, it connects to the cluster of this Ray job, of RAY_ADDRESS, or of this
    machine, where Ray is started if none runs. ``options`` are arguments of `ray.init`.
    """
    import ray

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


__all__ = ["CONNECT_SECONDS", "connect"]
