"""Whether Ray is simulated in this process, and where.

A test says so in the environment, which its child processes inherit: everything of this package
then uses the component `simulated`, whatever the user's code configures.
"""

import os
import sys
from pathlib import Path
from typing import Any

VARIABLE = "DAGSTER_RAY_SIMULATION"
# The component's setting with the directory.
SETTING = "simulation"
# The component's own address. Nothing listens there.
URL = "http://ray.simulated:8265"

_BUCKET = "simulation"
_SUPERVISOR = Path(__file__).parent / "supervisor.py"


def directory() -> str | None:
    """The directory of the simulation that this process is in."""
    return os.environ.get(VARIABLE) or None


def lent(path: str) -> dict[str, Any]:
    """What the component is lent for the simulation in this directory."""
    return {
        "programs": {"supervisor": [sys.executable, "-I", str(_SUPERVISOR)]},
        "buckets": {_BUCKET: str(Path(path, "state"))},
    }


class Connection:
    """What stands for Ray's context of a connection.

    Nothing is connected: Ray starts on this machine when the step first uses it, as it does in any
    program that has not connected to one.
    """

    def __init__(self) -> None:
        self._was_there = self._is_there()

    def disconnect(self) -> None:
        """Ends the Ray that the step has started, where it has."""
        if not self._was_there and self._is_there():
            sys.modules["ray"].shutdown()

    @staticmethod
    def _is_there() -> bool:
        ray = sys.modules.get("ray")
        return ray is not None and ray.is_initialized()


__all__ = ["SETTING", "URL", "VARIABLE", "Connection", "directory", "lent"]
