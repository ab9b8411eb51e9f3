"""Detects whether Ray is simulated in this process, and in which directory.

A test sets the environment variable `DAGSTER_RAY_SIMULATION`, which its child processes inherit.
The package then uses the component `simulated` instead of the configured one. If the variable is
set and no test runs, production jobs would run as processes of the daemon's machine, so the process
logs a warning.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "DAGSTER_RAY_SIMULATION"
# The component's setting for the directory.
SETTING = "simulation"
# The address of the simulated dashboard. Nothing listens on it.
URL = "http://ray.simulated:8265"

_BUCKET = "simulation"
_SUPERVISOR = Path(__file__).parent / "supervisor.py"
# A file in the simulation's directory with the test's process id, while the test runs.
_TEST = "test.pid"
# The directories that have been checked.
_seen: set[str] = set()


def directory() -> str | None:
    """Returns the directory of this process's simulation, or `None` without one.

    Other modules use `dagster_ray.ray_access`, which is the only caller.
    Logs a warning, once per process, if no test runs the simulation.
    """
    found = os.environ.get(VARIABLE) or None
    if found is not None and found not in _seen:
        _seen.add(found)
        if not _is_tested(found):
            _warn(found)
    return found


def begin_test(path: str) -> None:
    """Records this process as the test that runs the simulation."""
    Path(path, _TEST).write_text(str(os.getpid()))


def end_test(path: str) -> None:
    """Removes the record of `begin_test`."""
    Path(path, _TEST).unlink(missing_ok=True)


def _is_tested(path: str) -> bool:
    try:
        os.kill(int(Path(path, _TEST).read_text()), 0)
    except PermissionError:
        # The process exists and belongs to another user.
        return True
    except (OSError, ValueError):
        return False
    return True


def _warn(path: str) -> None:
    import logging

    logging.getLogger("dagster_ray").warning(
        "%s=%s is set, but no test runs: Ray is simulated in this process. Runs and steps are "
        "processes on this machine, and the configured Ray is not used. Unset %s",
        VARIABLE,
        path,
        VARIABLE,
    )


@dataclass(frozen=True)
class HostCapabilities:
    """The programs and buckets of the component `simulated`, by their names in its manifest."""

    programs: dict[str, list[str]]
    buckets: dict[str, str]


def host_capabilities(path: str) -> HostCapabilities:
    """Returns the component's host capabilities for the simulation in a directory."""
    return HostCapabilities(
        programs={"supervisor": [sys.executable, "-I", str(_SUPERVISOR)]},
        buckets={_BUCKET: str(Path(path, "state"))},
    )


class Connection:
    """Replaces the context that `ray.init` returns.

    It connects to nothing. Ray starts on this machine when the step first uses it, as in any
    program that has not called `ray.init`.
    """

    def __init__(self) -> None:
        self._was_running = self._is_running()

    def disconnect(self) -> None:
        """Shuts Ray down if the step has started it."""
        if not self._was_running and self._is_running():
            sys.modules["ray"].shutdown()

    @staticmethod
    def _is_running() -> bool:
        ray = sys.modules.get("ray")
        return ray is not None and ray.is_initialized()


__all__ = [
    "SETTING",
    "URL",
    "VARIABLE",
    "Connection",
    "HostCapabilities",
    "begin_test",
    "directory",
    "end_test",
    "host_capabilities",
]
