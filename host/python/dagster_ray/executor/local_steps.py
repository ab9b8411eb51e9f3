"""Local steps: steps that run in subprocesses of the run worker instead of on Ray."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dagster import DagsterEvent

from dagster_ray.dagster_internals import (
    CheckStepHealthResult,
    EngineEventData,
    StepHandler,
    StepHandlerContext,
)
from dagster_ray.dagster_typing import STEP_EVENTS
from dagster_ray.executor.event_log import reported_attempts
from dagster_ray.executor.step_plans import step_and_attempt
from dagster_ray.ray_access import in_ray_job

# The grace period before a step is killed, as for a step on Ray.
_GRACE_SECONDS = 30.0
# The grace period of a step that is interrupted only after `_GRACE_SECONDS`.
_LAST_SECONDS = 5.0
_LAST_LINES = 20
_GUARD = str(Path(__file__).with_name("parent_death_guard.py"))


@dataclass
class _Process:
    """The process of one attempt of a step."""

    process: subprocess.Popen[bytes]
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_LINES))
    # The process succeeded, but the event log does not contain the step's end yet.
    awaits_event: bool = False
    interrupted: bool = False

    def interrupt(self) -> None:
        if not self.interrupted and self.process.poll() is None:
            self.interrupted = True
            self.process.send_signal(signal.SIGTERM)

    def end(self, until: float) -> None:
        try:
            self.process.wait(max(until - time.monotonic(), 0.0))
            return
        except subprocess.TimeoutExpired:
            self.interrupt()
        try:
            self.process.wait(_LAST_SECONDS)
        except subprocess.TimeoutExpired:
            # Kill the process group, which includes the step's child processes.
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class LocalStepHandler(StepHandler):
    """Executes steps in subprocesses of the run worker, which end with it."""

    def __init__(self) -> None:
        self._steps: dict[tuple[str, int], _Process] = {}

    @property
    def name(self) -> str:
        return "LocalStepHandler"

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        key, attempt = step_and_attempt(step_handler_context)
        args = step_handler_context.execute_step_args
        program, *arguments = args.get_command_args(skip_serialized_namedtuple=True)
        # The `dagster` on the PATH may belong to another environment.
        dagster = [sys.executable, "-m", "dagster"] if program == "dagster" else [program]
        environment = {
            **os.environ,
            "DAGSTER_RUN_JOB_NAME": step_handler_context.dagster_run.job_name,
            "DAGSTER_RUN_STEP_KEY": key,
            **{entry["name"]: entry["value"] for entry in args.get_command_env()},
        }
        step = _Process(
            subprocess.Popen(
                [sys.executable, "-I", _GUARD, str(os.getpid()), *dagster, *arguments],
                env=environment,
                stderr=subprocess.PIPE,
                # A signal to the worker's process group must not kill the step before it cleans up.
                start_new_session=True,
            )
        )
        self._steps[key, attempt] = step
        threading.Thread(target=_forward_stderr, args=(step,), daemon=True).start()
        yield STEP_EVENTS.step_worker_starting(
            step_handler_context.get_step_context(key),
            message=f'Executing step "{key}" locally in process {step.process.pid}.',
            metadata={"Process": step.process.pid, "Host": os.uname().nodename},
        )

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        key, attempt = step_and_attempt(step_handler_context)
        step = self._steps.get((key, attempt))
        if step is None:
            return CheckStepHealthResult.unhealthy(
                f"The process of step {key} ended with the run's previous worker."
            )
        code = step.process.poll()
        if code is None:
            return CheckStepHealthResult.healthy()
        run_id = step_handler_context.dagster_run.run_id
        if reported_attempts(step_handler_context.instance, run_id)[key] > attempt:
            return CheckStepHealthResult.healthy()
        if code == 0 and not step.awaits_event:
            # The event log may be read from a replica that lags behind.
            step.awaits_event = True
            return CheckStepHealthResult.healthy()
        del self._steps[key, attempt]
        stderr = "".join(f"\n  {line}" for line in step.last_lines)
        return CheckStepHealthResult.unhealthy(
            f"The process of step {key} {_how(code)} without reporting the step's result."
            + (f" Last lines of stderr:{stderr}" if stderr else "")
        )

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        key, _ = step_and_attempt(step_handler_context)
        yield DagsterEvent.engine_event(
            step_handler_context.get_step_context(key),
            f"Stopping the process of step {key}",
            EngineEventData(),
        )
        self.interrupt(as_worker=True)
        self.join()

    def interrupt(self, *, as_worker: bool) -> None:
        """Sends SIGTERM to all steps without waiting for their end.

        `as_worker` says that the run worker itself was interrupted.
        """
        # Ray signals all processes below a job's entrypoint itself, and a second signal would
        # interrupt the step's cleanup.
        if as_worker and in_ray_job():
            return
        for step in self._steps.values():
            step.interrupt()

    def join(self) -> None:
        """Waits until all processes have ended. Kills those that exceed the grace period."""
        until = time.monotonic() + _GRACE_SECONDS
        for step in self._steps.values():
            step.end(until)
        self._steps.clear()


def _forward_stderr(step: _Process) -> None:
    """Copies a step's stderr to the worker's stderr, and keeps its last lines."""
    for line in step.process.stderr or ():
        text = line.decode(errors="replace")
        step.last_lines.append(text.rstrip())
        sys.stderr.write(text)
        sys.stderr.flush()


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


__all__ = ["LocalStepHandler"]
