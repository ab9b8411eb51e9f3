"""Which runs and steps are kept off Ray, and the steps that are."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dagster import DagsterEvent
from dagster._core.events import EngineEventData
from dagster._core.executor.step_delegating import (
    CheckStepHealthResult,
    StepHandler,
    StepHandlerContext,
)

from dagster_ray.backend import in_ray_job
from dagster_ray.configs import USER_DEFINED_RAY_KEY
from dagster_ray.core.spec import parsed
from dagster_ray.core.step_handler import RayStepHandler, identity, reports

_ENABLED = "enabled"
# As long as a step on Ray has.
_GRACE_SECONDS = 30.0
# For one that nobody had told.
_LAST_SECONDS = 5.0
_LAST_LINES = 20
_TIED = str(Path(__file__).with_name("tied_process.py"))


def is_for_ray(options: Mapping[str, Any], tags: Mapping[str, str]) -> bool:
    """Whether Ray executes what has these tags.

    What is not is none of a component's business, so this is decided before one is asked. What is
    neither true nor false is left for the component to complain about.
    """
    override = parsed(tags.get(USER_DEFINED_RAY_KEY)) or {}
    enabled = override[_ENABLED] if _ENABLED in override else options.get(_ENABLED)
    return enabled is not False


@dataclass
class _Process:
    """The process of one attempt of a step."""

    process: subprocess.Popen[bytes]
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_LINES))
    # It ended well, and Dagster's event log did not show it yet.
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
            # With what it started: a session of its own has a group of its own.
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class ProcessStepHandler(StepHandler):
    """Executes steps in processes beside the worker of their run, which end with it."""

    def __init__(self) -> None:
        self._steps: dict[tuple[str, int], _Process] = {}

    @property
    def name(self) -> str:
        return "ProcessStepHandler"

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        key, attempt = identity(step_handler_context)
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
                [sys.executable, "-I", _TIED, str(os.getpid()), *dagster, *arguments],
                env=environment,
                stderr=subprocess.PIPE,
                # What ends the worker's group must not take the step's time to clean up.
                start_new_session=True,
            )
        )
        self._steps[key, attempt] = step
        threading.Thread(target=_pass_on, args=(step,), daemon=True).start()
        yield DagsterEvent.step_worker_starting(
            step_handler_context.get_step_context(key),
            message=f'Executing step "{key}" off Ray, in process {step.process.pid}.',
            metadata={"Process": step.process.pid, "Host": os.uname().nodename},
        )

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        key, attempt = identity(step_handler_context)
        step = self._steps.get((key, attempt))
        if step is None:
            return CheckStepHealthResult.unhealthy(
                f"The process of step {key} has ended with the worker that the run had before."
            )
        code = step.process.poll()
        if code is None:
            return CheckStepHealthResult.healthy()
        run_id = step_handler_context.dagster_run.run_id
        if reports(step_handler_context.instance, run_id)[key] > attempt:
            return CheckStepHealthResult.healthy()
        if code == 0 and not step.awaits_event:
            # The event log may be read from a replica that lags behind.
            step.awaits_event = True
            return CheckStepHealthResult.healthy()
        del self._steps[key, attempt]
        wrote = "".join(f"\n  {line}" for line in step.last_lines)
        return CheckStepHealthResult.unhealthy(
            f"The process of step {key} {_how(code)} without reporting how the step went."
            + (f" The last that it wrote:{wrote}" if wrote else "")
        )

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        key, _ = identity(step_handler_context)
        yield DagsterEvent.engine_event(
            step_handler_context.get_step_context(key),
            f"Stopping the process of step {key}",
            EngineEventData(),
        )
        self.interrupt(as_worker=True)
        self.join()

    def interrupt(self, *, as_worker: bool) -> None:
        """Tells all steps to end, without waiting for it. `as_worker`: because somebody told the
        worker so."""
        # Ray tells everything below a job's entrypoint itself, and a second signal would break into
        # the step's cleaning up.
        if as_worker and in_ray_job():
            return
        for step in self._steps.values():
            step.interrupt()

    def join(self) -> None:
        """Returns once no process runs any more: one that does not end in time is killed."""
        until = time.monotonic() + _GRACE_SECONDS
        for step in self._steps.values():
            step.end(until)
        self._steps.clear()


class StepRouter(StepHandler):
    """Gives each step to the handler that its tag names."""

    def __init__(
        self, ray: RayStepHandler, processes: ProcessStepHandler, options: Mapping[str, Any]
    ) -> None:
        self._ray = ray
        self._processes = processes
        self._options = options

    @property
    def name(self) -> str:
        return self._ray.name

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        return self._handler(step_handler_context).launch_step(step_handler_context)

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        return self._handler(step_handler_context).check_step_health(step_handler_context)

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        # Whoever is asked first waits for its steps, and the others would lose that time.
        self._processes.interrupt(as_worker=True)
        return self._handler(step_handler_context).terminate_step(step_handler_context)

    def _handler(self, context: StepHandlerContext) -> StepHandler:
        key, _ = identity(context)
        on_ray = is_for_ray(self._options, context.step_tags[key])
        return self._ray if on_ray else self._processes


def _pass_on(step: _Process) -> None:
    """Shows what a step writes to stderr where the worker's own goes, and keeps the end of it."""
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


__all__ = ["ProcessStepHandler", "StepRouter", "is_for_ray"]
