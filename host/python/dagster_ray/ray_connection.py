"""The connection of this process to Ray."""

import os
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

# How long Ray Client connections are tried again; the client server sometimes needs a second try.
CONNECT_SECONDS = 120.0
_PAUSE_SECONDS = 1.0
_KNOCK_SECONDS = 2.0


def connect(address: str | None = None, *, seconds: float = CONNECT_SECONDS, **options: Any) -> Any:
    """Connects to Ray. Without an address it is the Ray of this Ray job, of RAY_ADDRESS, or one on
    this machine, which is started where there is none."""
    import ray

    if address is None and not os.environ.get("RAY_ADDRESS") and _recorded_ray_is_gone():
        # Ray itself would wait for it for minutes without a word.
        address = "local"
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ray.init(address=address, **options)
        except ConnectionError:
            # Without an address there is nothing out there that could come up later.
            if address in (None, "local") or time.monotonic() >= deadline:
                raise
        time.sleep(_PAUSE_SECONDS)


def _recorded_ray_is_gone() -> bool:
    """Whether Ray's note of the last Ray on this machine names one that was killed.

    Ray leaves it in `ray_current_cluster` of its directory for temporary files, and only a Ray that
    ends in order removes it.
    """
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    try:
        recorded = Path(folder, "ray", "ray_current_cluster").read_text().strip()
        host, _, port = recorded.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=_KNOCK_SECONDS):
            return False
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True


__all__ = ["CONNECT_SECONDS", "connect"]
