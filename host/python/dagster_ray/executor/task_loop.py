"""The executor's loop for runs with steps that are Ray tasks.

Modeled on Dagster's multiprocess executor: ended tasks arrive in a queue, with their events. Steps
that the component places elsewhere are delegated to a step handler, as in all other runs.
"""

import os
import queue
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import dagster as dg

from dagster_ray.backend import Backend
from dagster_ray.contract import ExecutorClient, Placement, StepRef, StepSpec
from dagster_ray.dagster_internals import (
    ActiveExecution,
    EngineEventData,
    ExecutionPlan,
    ExecutionStep,
    InstanceConcurrencyContext,
    PlanOrchestrationContext,
    RetryMode,
    StepFailureData,
    deserialize_value,
    serializable_error_info_from_exc_info,
    serialize_value,
)
from dagster_ray.dagster_typing import STEP_EVENTS, error_info, sleep_interval
from dagster_ray.errors import DagsterRayError, InvalidConfigError
from dagster_ray.executor.delegated_steps import DelegatedSteps
from dagster_ray.executor.event_log import POLL_SECONDS, STEP_ENDS
from dagster_ray.executor.known_state import known_to_step
from dagster_ray.executor.ray_driver import RayDriver
from dagster_ray.executor.ray_tasks import RayTasks, cause
from dagster_ray.executor.resumption import TASK, events_to_continue
from dagster_ray.executor.step_plans import reference, task_spec
from dagster_ray.executor.task_worker import RunPayload, StepPayload
from dagster_ray.tasks import Cause

# After this time, the event log says that a step waits for Ray.
_PENDING_SECONDS = 30.0
# How long Ray may take to report the end of a stopped task.
_KILL_SECONDS = 10.0

_REASONS: Mapping[Cause, str] = {
    "worker-crashed": "its worker process crashed",
    "out-of-memory": "Ray killed its worker process, because the node ran out of memory",
    "node-died": "its node died",
    "runtime-env": "its runtime environment could not be created",
    "unschedulable": "no node can provide what it reserves",
    "other": "its Ray task failed",
}


class TaskExecutor(Protocol):
    """What the loop uses of the executor."""

    @property
    def retries(self) -> RetryMode: ...

    def active_execution(
        self, plan: ExecutionPlan, concurrency: InstanceConcurrencyContext
    ) -> ActiveExecution: ...

    def log_failure_or_retry_event_after_error(
        self, step_context: Any, err_info: Any, known_state: Any
    ) -> dg.DagsterEvent: ...


@dataclass
class _Running:
    """A step that was submitted as a task."""

    step: ExecutionStep
    ref: StepRef
    submitted_at: float = field(default_factory=time.monotonic)
    is_reported: bool = False


class TaskLoop:
    """Executes the steps of one run."""

    def __init__(
        self,
        executor: TaskExecutor,
        backend: Backend,
        options: Callable[[], Mapping[str, Any]],
        delegated: DelegatedSteps,
        plan_context: PlanOrchestrationContext,
        plan: ExecutionPlan,
    ) -> None:
        self._executor = executor
        self._backend = backend
        self._component = ExecutorClient(backend)
        self._options = options
        self._delegated = delegated
        self._context = plan_context
        self._plan = plan
        self._driver = RayDriver(backend)
        self._tasks = RayTasks(self._payload(), self._driver.connect)
        # By the task's key.
        self._running: dict[str, _Running] = {}

    def execute(self) -> Iterator[dg.DagsterEvent]:
        """Executes the steps, and yields their events."""
        context = self._context
        yield dg.DagsterEvent.engine_event(
            context,
            f"Executing steps as Ray tasks: process {os.getpid()} is their driver.",
            EngineEventData(),
        )
        with (
            self._driver,
            self._backend.tasks.attached(self._tasks),
            InstanceConcurrencyContext(context.instance, context.dagster_run) as concurrency,
            self._executor.active_execution(self._plan, concurrency) as active,
        ):
            try:
                yield from self._steps(active)
            except BaseException:
                # No task may run on after the run.
                self._tasks.cancel(list(self._running), 0)
                raise

    def _steps(self, active: ActiveExecution) -> Iterator[dg.DagsterEvent]:
        if self._context.resume_from_failure:
            yield from self._resume(active)
        while self._running or not active.is_complete:
            if active.check_for_interrupts():
                active.mark_interrupted()
                yield from self._interrupt(active)
                raise dg.DagsterExecutionInterruptedError
            yield from self._launch(active)
            yield from self._receive(active, self._wait_seconds(active))
            yield from self._delegated.poll(active)
            yield from self._report_pending()
            yield from active.plan_events_iterator(self._context)

    def _payload(self) -> RunPayload:
        context = self._context
        load_data = self._plan.repository_load_data
        return RunPayload(
            run_id=context.run_id,
            dagster_run=serialize_value(context.dagster_run),
            instance=serialize_value(context.instance.get_ref()),
            job_origin=serialize_value(context.reconstructable_job.get_python_origin()),
            repository_load_data=None if load_data is None else serialize_value(load_data),
            retry_mode=self._executor.retries.for_inner_plan().value,
            directory=str(Path.cwd()),
        )

    def _wait_seconds(self, active: ActiveExecution) -> float:
        """Returns the longest wait for a task's end. Interrupts are noticed between two waits."""
        until_ready = sleep_interval(active)
        return min(until_ready, POLL_SECONDS) if until_ready > 0 else POLL_SECONDS

    def _resume(self, active: ActiveExecution) -> Iterator[dg.DagsterEvent]:
        """Continues after the events of the run's earlier worker.

        Its tasks have ended, because they belong to its Ray job.
        """
        context = self._context
        yield dg.DagsterEvent.engine_event(
            context, "Resuming execution from failure", EngineEventData()
        )
        entries = context.instance.all_logs(context.run_id)
        earlier = events_to_continue(
            entry.dagster_event for entry in entries if entry.dagster_event is not None
        )
        yield from earlier
        # Skipped steps are skipped again.
        known = [event for event in earlier if not event.is_step_skipped]
        steps = active.rebuild_from_events(known)
        yield from self._launch_steps(active, steps, is_resumed=True)

    def _launch(self, active: ActiveExecution) -> Iterator[dg.DagsterEvent]:
        while steps := active.get_steps_to_execute():
            yield from active.concurrency_event_iterator(self._context)
            yield from self._launch_steps(active, steps)
        yield from active.concurrency_event_iterator(self._context)

    def _launch_steps(
        self, active: ActiveExecution, steps: Any, *, is_resumed: bool = False
    ) -> Iterator[dg.DagsterEvent]:
        known_state = active.get_known_state()
        attempts = known_state.get_retry_state()
        options = self._options()
        planned: list[tuple[ExecutionStep, StepSpec, set[str]]] = []
        for step in steps:
            attempt = attempts.get_attempt_count(step.key)
            try:
                planned.append((step, *task_spec(self._context, step, attempt, options)))
            except InvalidConfigError as error:
                yield from self._fail(active, step, error)
        placements = self._call_plan([spec for _, spec, _ in planned])
        tasks: list[tuple[ExecutionStep, Any]] = []
        directories: set[str] = set()
        for (step, spec, readable), placement in zip(planned, placements, strict=True):
            if isinstance(placement, Exception):
                yield from self._fail(active, step, placement)
            elif placement == "local" or "job" in placement:
                self._delegated.launch(active, step, is_resumed=is_resumed)
            else:
                ref = reference(placement)
                yield STEP_EVENTS.step_worker_starting(
                    self._context.for_step(step),
                    message=f'Executing step "{step.key}" in Ray task {_key(ref)}.',
                    metadata={TASK: _key(ref)},
                )
                state = serialize_value(known_to_step(known_state, step))
                self._tasks.offer(StepPayload(step.key, spec["attempt"], state))
                tasks.append((step, spec))
                directories |= readable
        if not tasks:
            return
        answers: list[Placement | Exception]
        try:
            answers = self._component.launch([spec for _, spec in tasks], directories=directories)
        except DagsterRayError as error:
            answers = [error for _ in tasks]
        for (step, _), answer in zip(tasks, answers, strict=True):
            if isinstance(answer, Exception):
                yield from self._fail(active, step, answer)
            else:
                ref = reference(answer)
                self._running[_key(ref)] = _Running(step, ref)

    def _call_plan(self, specs: list[Any]) -> list[Placement | Exception]:
        try:
            return self._component.plan(specs)
        except DagsterRayError as error:
            return [error for _ in specs]

    def _fail(
        self, active: ActiveExecution, step: ExecutionStep, error: BaseException
    ) -> Iterator[dg.DagsterEvent]:
        """Reports the end of a step that was not started."""
        info = _error_info(error)
        if isinstance(error, InvalidConfigError):
            # A retry would fail in the same way.
            event = self._failure(step, info)
        else:
            event = self._failure_or_retry(active, step, info)
        yield event
        active.handle_event(event)

    def _failure(self, step: ExecutionStep, info: Any) -> dg.DagsterEvent:
        return STEP_EVENTS.step_failure_event(
            self._context.for_step(step), StepFailureData(error=info, user_failure_data=None)
        )

    def _failure_or_retry(
        self, active: ActiveExecution, step: ExecutionStep, info: Any
    ) -> dg.DagsterEvent:
        return self._executor.log_failure_or_retry_event_after_error(
            self._context.for_step(step), info, active.get_known_state()
        )

    def _receive(
        self, active: ActiveExecution, seconds: float, *, interrupted: bool = False
    ) -> Iterator[dg.DagsterEvent]:
        """Waits for the end of a task, and handles all that have ended."""
        try:
            key = self._tasks.ended.get(timeout=seconds)
            while True:
                if key in self._running:
                    yield from self._settle(active, key, interrupted=interrupted)
                key = self._tasks.ended.get_nowait()
        except queue.Empty:
            return

    def _settle(
        self, active: ActiveExecution, key: str, *, interrupted: bool = False
    ) -> Iterator[dg.DagsterEvent]:
        """Handles the end of a task."""
        step = self._running.pop(key).step
        info: Any = None
        try:
            result = self._tasks.result(key)
        except Exception as error:
            # The step may have ended before its process did.
            events = self._logged_events(step)
            reason = _REASONS[cause(error)]
            if interrupted:
                reason = "it was interrupted"
            message = f"Step {step.key} did not end: {reason}.\n{error}"
            info = error_info(message, type(error).__name__)
        else:
            events = [deserialize_value(text, dg.DagsterEvent) for text in result["events"]]
            if result["error"] is not None:
                info = deserialize_value(result["error"])
        ended = False
        for event in events:
            yield event
            active.handle_event(event)
            ended = ended or event.event_type in STEP_ENDS or event.is_step_skipped
            if event.is_resource_init_failure:
                info = event.engine_event_data.error or info
        if ended:
            return
        info = info or error_info(f"Step {step.key} ended without reporting its result.")
        if interrupted:
            event = self._failure(step, info)
        else:
            event = self._failure_or_retry(active, step, info)
        yield event
        active.handle_event(event)

    def _report_pending(self) -> Iterator[dg.DagsterEvent]:
        """Reports each step that Ray has not started for a long time, once."""
        late_since = time.monotonic() - _PENDING_SECONDS
        late = {
            running.step.key: running
            for running in self._running.values()
            if not running.is_reported and running.submitted_at < late_since
        }
        if not late:
            return
        started: set[str] = set()
        types = {
            dg.DagsterEventType.STEP_WORKER_STARTING,
            dg.DagsterEventType.STEP_WORKER_STARTED,
        }
        for entry in self._context.instance.all_logs(self._context.run_id, of_type=types):
            event = entry.dagster_event
            if event is None or event.step_key is None:
                continue
            if event.event_type == dg.DagsterEventType.STEP_WORKER_STARTED:
                started.add(event.step_key)
            else:
                started.discard(event.step_key)
        for key, running in late.items():
            running.is_reported = True
            if key in started:
                continue
            reserved = self._tasks.reserved(_key(running.ref))
            yield dg.DagsterEvent.engine_event(
                self._context.for_step(running.step),
                f"Ray has not started step {key} for {_PENDING_SECONDS:.0f} s. It waits for a "
                f"worker process, or for what its task reserves: {reserved}.",
                EngineEventData(),
            )

    def _logged_events(self, step: ExecutionStep) -> list[dg.DagsterEvent]:
        """Returns the events that the last attempt of a step has written to the event log."""
        found: list[dg.DagsterEvent] = []
        for entry in self._context.instance.all_logs(self._context.run_id):
            event = entry.dagster_event
            if event is None or event.step_key != step.key:
                continue
            if event.event_type == dg.DagsterEventType.STEP_WORKER_STARTING:
                found.clear()
            else:
                found.append(event)
        return found

    def _interrupt(self, active: ActiveExecution) -> Iterator[dg.DagsterEvent]:
        """Ends all steps."""
        context = self._context
        refs = [running.ref for running in self._running.values()]
        if context.instance.run_will_resume(context.run_id):
            yield dg.DagsterEvent.engine_event(
                context,
                "Executor received termination signal. The steps are executed again when the run "
                "is resumed.",
                EngineEventData.interrupted([one.step.key for one in self._running.values()]),
            )
            # They end with this process. An interrupted step would report a failure.
            self._tasks.cancel(list(self._running), 0)
            return
        yield dg.DagsterEvent.engine_event(
            context,
            "Executor received termination signal, forwarding to steps",
            EngineEventData.interrupted([one.step.key for one in self._running.values()]),
        )
        pending = self._component.start_terminate(refs) if refs else None
        self._delegated.terminate(active)
        while self._running and not (pending is not None and pending.done()):
            yield from self._receive(active, POLL_SECONDS, interrupted=True)
        if pending is not None:
            try:
                pending.result()
            except DagsterRayError as error:
                context.log.error(f"The Ray tasks of the run's steps could not be stopped: {error}")
        deadline = time.monotonic() + _KILL_SECONDS
        while self._running and time.monotonic() < deadline:
            yield from self._receive(active, POLL_SECONDS, interrupted=True)


def _key(ref: StepRef) -> str:
    return ref["job"]["submission_id"]


def _error_info(error: BaseException) -> Any:
    try:
        raise error
    except BaseException:
        return serializable_error_info_from_exc_info(sys.exc_info())


__all__ = ["TaskLoop"]
