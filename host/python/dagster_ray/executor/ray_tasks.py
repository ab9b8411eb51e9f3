"""Submits the steps of a run as Ray tasks, through the Ray client of this process."""

import json
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, cast

from dagster_ray.errors import BackendError, ConflictError
from dagster_ray.executor import task_worker
from dagster_ray.executor.task_worker import RunPayload, StepPayload, StepResult
from dagster_ray.tasks import Cause, TaskStatus

# Names a task whose process must be new: Ray starts a process for each distinct environment.
_FRESH = "DAGSTER_RAY_FRESH_PROCESS"
# The classes of Ray's exceptions, and what each says of the task.
_CAUSES: Mapping[str, Cause] = {
    "WorkerCrashedError": "worker-crashed",
    "OutOfMemoryError": "out-of-memory",
    "NodeDiedError": "node-died",
    "LocalRayletDiedError": "node-died",
    "RuntimeEnvSetupError": "runtime-env",
    "TaskUnschedulableError": "unschedulable",
}


@dataclass
class _Task:
    """A submitted task."""

    key: str
    ref: Any
    future: "Future[StepResult]"
    reserved: Mapping[str, Any]
    cancelled: bool = False
    timers: list[threading.Timer] = field(default_factory=list[threading.Timer])


class RayTasks:
    """The tasks of one run. Thread-safe: components call it from threads of the host."""

    def __init__(self, run: RunPayload, connect: Callable[[], None]) -> None:
        """`connect` connects this process to Ray, unless it is connected."""
        self._run = run
        self._connect = connect
        self._lock = threading.Lock()
        self._offered: dict[tuple[str, int], StepPayload] = {}
        self._tasks: dict[str, _Task] = {}
        # The keys of tasks that have ended.
        self.ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._shared: Any = None
        self._functions: dict[str, Any] = {}

    def offer(self, step: StepPayload) -> None:
        """Sets what the task of a step executes. The component then submits the task."""
        with self._lock:
            self._offered[step.step_key, step.attempt] = step

    def result(self, key: str) -> StepResult:
        """Returns the result of a task that has ended, or raises Ray's exception.

        The task and its events are then forgotten.
        """
        with self._lock:
            task = self._tasks.pop(key)
        for timer in task.timers:
            timer.cancel()
        return task.future.result()

    def reserved(self, key: str) -> str:
        """Returns what a task reserves, as text."""
        with self._lock:
            reserved = self._tasks[key].reserved
        return ", ".join(f"{name} {amount}" for name, amount in reserved.items() if amount)

    def submit(self, task: str) -> None:
        self._connect()
        spec = json.loads(task)
        key: str = spec["key"]
        with self._lock:
            if key in self._tasks:
                return
            step = self._offered.pop((spec["step_key"], spec["attempt"]), None)
            if step is None or spec["run_id"] != self._run.run_id:
                raise ConflictError(
                    f"task {key}: the executor does not launch step {spec['step_key']!r} of run "
                    f"{spec['run_id']} as attempt {spec['attempt']}"
                )
            options = _options(spec["reservation"], json.loads(spec["runtime_env"]))
            if spec["fresh"]:
                environment: dict[str, Any] = options.setdefault("runtime_env", {})
                variables: Mapping[str, str] = environment.get("env_vars") or {}
                environment["env_vars"] = {**variables, _FRESH: key}
            function = self._function("fresh" if spec["fresh"] else "warm")
            try:
                ref = function.options(name=step.step_key, **options).remote(self._payload(), step)
            except (TypeError, ValueError) as error:
                # Ray validates the options before it submits.
                raise BackendError(f"Ray refuses the task: {error}", reason="Refused") from error
            future: Future[StepResult] = ref.future()
            self._tasks[key] = _Task(key, ref, future, spec["reservation"])
        future.add_done_callback(lambda _: self.ended.put(key))

    def status(self, keys: Sequence[str]) -> list[TaskStatus]:
        with self._lock:
            tasks = [self._tasks.get(key) for key in keys]
        return [_status(key, task) for key, task in zip(keys, tasks, strict=True)]

    def cancel(self, keys: Sequence[str], grace_ms: int) -> None:
        with self._lock:
            tasks = [self._tasks[key] for key in keys if key in self._tasks]
        for task in tasks:
            if task.future.done():
                continue
            task.cancelled = True
            if grace_ms > 0:
                _cancel(task, force=False)
            timer = threading.Timer(grace_ms / 1000, _cancel, [task], {"force": True})
            timer.daemon = True
            task.timers.append(timer)
            timer.start()

    def warm(self, workers: str) -> None:
        self._connect()
        spec = json.loads(workers)
        options = _options(spec["reservation"], json.loads(spec["runtime_env"]))
        function = self._function("prepare").options(**options)
        for _ in range(spec["count"]):
            function.remote(self._payload())

    def _payload(self) -> Any:
        import ray

        if self._shared is None:
            self._shared = cast(Any, ray).put(self._run)
        return self._shared

    def _function(self, kind: str) -> Any:
        import ray

        if not self._functions:
            # Only the decorator takes `max_calls`.
            self._functions = {
                "warm": ray.remote(max_retries=0)(task_worker.execute),
                "fresh": ray.remote(max_retries=0, max_calls=1)(task_worker.execute),
                "prepare": ray.remote(max_retries=0)(task_worker.prepare),
            }
        return self._functions[kind]


def cause(error: BaseException) -> Cause:
    """Returns why a task has failed."""
    for cls in type(error).__mro__:
        if cls.__name__ in _CAUSES:
            return _CAUSES[cls.__name__]
    return "other"


def _options(reservation: Mapping[str, Any], runtime_env: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "num_cpus": reservation["num_cpus"],
        "num_gpus": reservation["num_gpus"] or None,
        "memory": reservation["memory"],
        "resources": reservation["resources"] or None,
        "label_selector": reservation["label_selector"] or None,
        "runtime_env": runtime_env or None,
    }
    return {name: value for name, value in options.items() if value is not None}


def _cancel(task: _Task, *, force: bool) -> None:
    import ray

    if not task.future.done():
        cast(Any, ray).cancel(task.ref, force=force, recursive=force)


def _status(key: str, task: _Task | None) -> TaskStatus:
    if task is None:
        return {"key": key, "state": "missing", "cause": None, "message": None}
    if not task.future.done():
        return {"key": key, "state": "running", "cause": None, "message": None}
    error = task.future.exception()
    if error is None:
        return {"key": key, "state": "finished", "cause": None, "message": None}
    if task.cancelled:
        return {"key": key, "state": "cancelled", "cause": None, "message": str(error)}
    return {"key": key, "state": "failed", "cause": cause(error), "message": str(error)}


__all__ = ["RayTasks", "cause"]
