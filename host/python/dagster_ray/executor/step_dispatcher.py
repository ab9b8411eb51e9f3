"""Dispatches each step of a run to Ray or to a local process, as the component decides."""

from collections.abc import Iterator

from dagster import DagsterEvent

from dagster_ray.dagster_internals import (
    CheckStepHealthResult,
    StepHandler,
    StepHandlerContext,
    check_captured_interrupt,
)
from dagster_ray.executor.local_steps import LocalStepHandler
from dagster_ray.executor.step_handler import RayStepHandler
from dagster_ray.executor.step_plans import step_and_attempt


class StepDispatcher(StepHandler):
    """Dispatches each step to Ray or to a local process, as the component decides."""

    def __init__(self, ray_steps: RayStepHandler, local_steps: LocalStepHandler) -> None:
        self._ray_steps = ray_steps
        self._local_steps = local_steps
        # By step key. The tags of a step do not change during a run.
        self._handlers: dict[str, StepHandler] = {}

    @property
    def name(self) -> str:
        return self._ray_steps.name

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        if check_captured_interrupt():
            # A wide round of launches can take minutes. Dagster's loop handles the interrupt next.
            return iter(())
        return self._handler(step_handler_context).launch_step(step_handler_context)

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        return self._handler(step_handler_context).check_step_health(step_handler_context)

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        # Interrupt all local steps first: termination waits, and would use up their grace period.
        self._local_steps.interrupt(as_worker=True)
        return self._handler(step_handler_context).terminate_step(step_handler_context)

    def _handler(self, context: StepHandlerContext) -> StepHandler:
        key, _ = step_and_attempt(context)
        if key not in self._handlers:
            is_local = self._ray_steps.is_local(context)
            self._handlers[key] = self._local_steps if is_local else self._ray_steps
        return self._handlers[key]


__all__ = ["StepDispatcher"]
