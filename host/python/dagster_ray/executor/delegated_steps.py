"""The steps of a run with Ray tasks that are no tasks: Ray jobs and local processes."""

import time
from collections.abc import Iterator
from typing import Any, Protocol

import dagster as dg

from dagster_ray.dagster_internals import (
    ActiveExecution,
    ExecutionStep,
    PlanOrchestrationContext,
    StepHandler,
    StepHandlerContext,
)
from dagster_ray.dagster_typing import error_info
from dagster_ray.executor.event_log import POLL_SECONDS, STEP_ENDS


class DelegatingExecutor(Protocol):
    """What delegated steps use of the executor."""

    @property
    def health_check_seconds(self) -> float: ...

    def handler_context(
        self,
        plan_context: PlanOrchestrationContext,
        step: ExecutionStep,
        active: ActiveExecution,
    ) -> StepHandlerContext: ...

    def new_events(self, plan_context: PlanOrchestrationContext) -> list[dg.DagsterEvent]: ...

    def log_failure_or_retry_event_after_error(
        self, step_context: Any, err_info: Any, known_state: Any
    ) -> dg.DagsterEvent: ...


class DelegatedSteps:
    """Launches steps with a step handler, and reads their events from Dagster's event log.

    The event log is read only while such a step runs.
    """

    def __init__(
        self,
        executor: DelegatingExecutor,
        handler: StepHandler,
        plan_context: PlanOrchestrationContext,
    ) -> None:
        self._executor = executor
        self._handler = handler
        self._context = plan_context
        self._running: dict[str, ExecutionStep] = {}
        self._polled_at = self._checked_at = time.monotonic()

    def launch(self, active: ActiveExecution, step: ExecutionStep, *, is_resumed: bool) -> None:
        """Launches a step, unless the run's earlier worker has launched it and it still runs."""
        context = self._executor.handler_context(self._context, step, active)
        if not (is_resumed and self._handler.check_step_health(context).is_healthy):
            if not self._running:
                # Forget the events of the tasks.
                self._executor.new_events(self._context)
            # The events are read from the event log.
            list(self._handler.launch_step(context))
        self._running[step.key] = step

    def poll(self, active: ActiveExecution) -> Iterator[dg.DagsterEvent]:
        """Yields the new events of the steps, and those of steps that have died."""
        now = time.monotonic()
        if not self._running or now - self._polled_at < POLL_SECONDS:
            return
        self._polled_at = now
        for event in self._executor.new_events(self._context):
            step = self._running.get(event.step_key or "")
            if step is None or event.is_step_skipped:
                continue
            yield event
            if event.is_resource_init_failure:
                active.handle_event(event)
                error: Any = event.engine_event_data.error
                # The event that this writes is read from the event log.
                self._executor.log_failure_or_retry_event_after_error(
                    self._context.for_step(step), error, active.get_known_state()
                )
                continue
            active.handle_event(event)
            if event.event_type in STEP_ENDS:
                del self._running[step.key]
        if now - self._checked_at >= self._executor.health_check_seconds:
            self._checked_at = now
            self._check(active)

    def _check(self, active: ActiveExecution) -> None:
        for step in self._running.values():
            context = self._executor.handler_context(self._context, step, active)
            health = self._handler.check_step_health(context)
            if health.is_healthy:
                continue
            reason = f"Step {step.key} failed health check: {health.unhealthy_reason}"
            error = error_info(reason)
            self._executor.log_failure_or_retry_event_after_error(
                self._context.for_step(step), error, active.get_known_state()
            )

    def terminate(self, active: ActiveExecution) -> None:
        """Stops all steps."""
        for step in self._running.values():
            context = self._executor.handler_context(self._context, step, active)
            list(self._handler.terminate_step(context))


__all__ = ["DelegatedSteps"]
