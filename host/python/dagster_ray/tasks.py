"""The capability `tasks` of this process: Ray tasks that execute the steps of a run.

A component asks for tasks through the host. Only the executor of a run submits them, so this
process has a runner of tasks only while it executes the steps of a run.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol, TypedDict

from dagster_ray.errors import UnsupportedError

TaskState = Literal["running", "finished", "failed", "cancelled", "missing"]
Cause = Literal[
    "worker-crashed", "out-of-memory", "node-died", "runtime-env", "unschedulable", "other"
]


class TaskStatus(TypedDict):
    """The status of a task."""

    key: str
    state: TaskState
    cause: Cause | None
    message: str | None


class TaskRunner(Protocol):
    """Submits tasks. Specs are JSON."""

    def warm(self, workers: str) -> None: ...
    def submit(self, task: str) -> None: ...
    def status(self, keys: Sequence[str]) -> list[TaskStatus]: ...
    def cancel(self, keys: Sequence[str], grace_ms: int) -> None: ...


class Tasks:
    """Passes the requests of components on to the runner of the run that this process executes."""

    def __init__(self) -> None:
        self._runner: TaskRunner | None = None

    @contextmanager
    def attached(self, runner: TaskRunner) -> Generator[None]:
        """Uses a runner while the context is open."""
        self._runner = runner
        try:
            yield
        finally:
            self._runner = None

    def warm(self, workers: str) -> None:
        self._attached().warm(workers)

    def submit(self, task: str) -> None:
        self._attached().submit(task)

    def status(self, keys: Sequence[str]) -> list[TaskStatus]:
        return self._attached().status(keys)

    def cancel(self, keys: Sequence[str], grace_ms: int) -> None:
        self._attached().cancel(keys, grace_ms)

    def _attached(self) -> TaskRunner:
        if self._runner is None:
            raise UnsupportedError(
                "only `ray_executor` can execute steps as Ray tasks, while it executes a run"
            )
        return self._runner


__all__ = ["Cause", "TaskRunner", "TaskState", "TaskStatus", "Tasks"]
