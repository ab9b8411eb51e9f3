"""Executes steps in a worker process of Ray, as Dagster's multiprocess executor does in a child.

What steps of a run share is loaded once for each process: the instance, the job and its plan.
"""

import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import dagster as dg

from dagster_ray import dagster_internals as dagster
from dagster_ray import ray_connection
from dagster_ray.dagster_typing import STEP_EVENTS


@dataclass(frozen=True)
class RunPayload:
    """What the steps of a run share, serialized by Dagster."""

    run_id: str
    dagster_run: str
    instance: str
    job_origin: str
    repository_load_data: str | None
    retry_mode: str
    directory: str


@dataclass(frozen=True)
class StepPayload:
    """A step to execute."""

    step_key: str
    attempt: int
    known_state: str


class StepResult(TypedDict):
    """The events of a step in their order, and the error that ended the step without an event."""

    events: list[str]
    error: str | None
    pid: int


@dataclass
class _Run:
    """A run, as this process has loaded it."""

    payload: RunPayload
    instance: dg.DagsterInstance
    dagster_run: dg.DagsterRun
    job: Any
    load_data: Any


# A process executes steps of one run, because it belongs to one Ray job. A driver that is no Ray
# job can execute several runs.
_runs: dict[str, _Run] = {}


def execute(run: RunPayload, step: StepPayload) -> StepResult:
    """Executes a step, and returns its events."""
    events: list[str] = []
    error: str | None = None
    with _signals(), ray_connection.task(), dagster.capture_interrupts():
        try:
            # Before the environment is saved: modules may set variables that all steps need.
            loaded = _loaded(run)
            with _environment(loaded, step):
                events.extend(dagster.serialize_value(event) for event in _execute(loaded, step))
        except (Exception, KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
            info = dagster.serializable_error_info_from_exc_info(sys.exc_info())
            error = dagster.serialize_value(info)
    return {"events": events, "error": error, "pid": os.getpid()}


def prepare(run: RunPayload) -> None:
    """Loads what the steps of a run share."""
    with suppress(Exception):
        _loaded(run)


def _loaded(payload: RunPayload) -> _Run:
    run = _runs.get(payload.run_id)
    if run is not None and run.payload == payload:
        return run
    for earlier in _runs.values():
        earlier.instance.dispose()
    _runs.clear()
    instance = dg.DagsterInstance.from_ref(_deserialize(payload.instance))
    dagster_run = _deserialize(payload.dagster_run)
    # On another node, the directory may not exist.
    with suppress(OSError):
        os.chdir(payload.directory)
    load_data = None
    if payload.repository_load_data is not None:
        load_data = _deserialize(payload.repository_load_data)
    job = (
        dagster.recon_job_from_origin(_deserialize(payload.job_origin))
        .with_repository_load_data(load_data)
        .get_subset(
            op_selection=dagster_run.resolved_op_selection,
            asset_selection=dagster_run.asset_selection,
            asset_check_selection=dagster_run.asset_check_selection,
        )
    )
    job.get_definition()
    run = _runs[payload.run_id] = _Run(payload, instance, dagster_run, job, load_data)
    return run


def _execute(run: _Run, step: StepPayload) -> Iterator[dg.DagsterEvent]:
    location = run.dagster_run.remote_job_origin
    run.instance.inject_env_vars(location.location_name if location else None)
    yield STEP_EVENTS.step_worker_started(
        dagster.create_context_free_log_manager(run.instance, run.dagster_run),
        run.dagster_run.job_name,
        message=f'Executing step "{step.step_key}" in a Ray task.',
        metadata={"pid": dg.MetadataValue.text(str(os.getpid()))},
        step_key=step.step_key,
    )
    plan = dagster.create_execution_plan(
        run.job,
        run_config=run.dagster_run.run_config,
        step_keys_to_execute=[step.step_key],
        known_state=_deserialize(step.known_state),
        repository_load_data=run.load_data,
    )
    yield from dagster.execute_plan_iterator(
        plan,
        run.job,
        run.dagster_run,
        run.instance,
        run_config=run.dagster_run.run_config,
        retry_mode=dagster.RetryMode(run.payload.retry_mode),
    )


def _deserialize(text: str) -> Any:
    return dagster.deserialize_value(text)


@contextmanager
def _environment(run: _Run, step: StepPayload) -> Generator[None]:
    """Gives the step the environment variables of a job, and restores the process after it."""
    before, directory = dict(os.environ), Path.cwd()
    os.environ["DAGSTER_RUN_JOB_NAME"] = run.dagster_run.job_name
    os.environ["DAGSTER_RUN_STEP_KEY"] = step.step_key
    os.environ["DAGSTER_RAY_STEP_ATTEMPT"] = str(step.attempt)
    try:
        yield
    finally:
        # The next step must not see what this one has changed.
        os.environ.clear()
        os.environ.update(before)
        with suppress(OSError):
            os.chdir(directory)


@contextmanager
def _signals() -> Generator[None]:
    """Restores Ray's signal handlers, and lets a canceled task interrupt a blocking system call.

    Ray cancels a task with `_thread.interrupt_main`, which does not end a `sleep` or a `read`.
    Python writes a byte to the wakeup file descriptor then, and a real signal ends the call.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    woken = signal.signal(signal.SIGURG, _ignore)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    earlier = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    main = threading.main_thread().ident or 0
    thread = threading.Thread(target=_wake, args=(reader, main), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(earlier)
        os.close(writer)
        thread.join()
        signal.signal(signal.SIGURG, woken)
        for one, handler in handlers.items():
            signal.signal(one, handler)


def _ignore(_number: int, _frame: object) -> None:
    """Handles a signal that only ends a system call."""


def _wake(reader: int, main: int) -> None:
    with os.fdopen(reader, "rb", buffering=0) as source:
        while received := source.read(1):
            if received[0] == signal.SIGINT:
                signal.pthread_kill(main, signal.SIGURG)


__all__ = ["RunPayload", "StepPayload", "StepResult", "execute", "prepare"]
