"""Whether Ray is simulated in this process, and where.

A test sets the environment variable `DAGSTER_RAY_SIMULATION`, which its child processes inherit:
everything of this package then uses the component `simulated`, whatever the user's code configures.
The variable without a running test behind it is a mistake that would run production jobs as
processes of the daemon's machine, so that a process in which it is set logs a warning.
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
# In the simulation's directory, while its test runs: the test's process id.
_TEST = "test.pid"
# The directories that have been looked at.
_seen: set[str] = set()


def directory() -> str | None:
    """The directory of the simulation that this process is in.

    Logs a warning where no test runs that simulation, once in a process.
    """
    found = os.environ.get(VARIABLE) or None
    if found is not None and found not in _seen:
        _seen.add(found)
        if not _is_tested(found):
            _warn(found)
    return found


def begin_test(path: str) -> None:
    """Notes in the directory that this process tests with it."""
    Path(path, _TEST).write_text(str(os.getpid()))


def end_test(path: str) -> None:
    """Removes the note."""
    Path(path, _TEST).unlink(missing_ok=True)


def _is_tested(path: str) -> bool:
    try:
        os.kill(int(Path(path, _TEST).read_text()), 0)
    except PermissionError:
        # The process exists, and belongs to another user.
        return True
    except (OSError, ValueError):
        return False
    return True


def _warn(path: str) -> None:
    import logging

    logging.getLogger("dagster_ray").warning(
        "%s=%s is set, but no test runs with it: Ray is simulated in this process. Runs and steps "
        "are processes of this machine, and the configured Ray is not used. Unset %s",
        VARIABLE,
        path,
        VARIABLE,
    )


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


__all__ = [
    "SETTING",
    "URL",
    "VARIABLE",
    "Connection",
    "begin_test",
    "directory",
    "end_test",
    "lent",
]
