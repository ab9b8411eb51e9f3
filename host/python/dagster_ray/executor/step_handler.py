"""The step handler that submits Dagster steps as Ray jobs."""

import json
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dagster import DagsterEvent, DagsterInstance

from dagster_ray import ray_access
from dagster_ray.backend import Backend
from dagster_ray.configs import USER_DEFINED_RAY_KEY
from dagster_ray.contract import (
    ExecutorClient,
    JobStatus,
    Leftover,
    PendingCall,
    Placement,
    StepRef,
)
from dagster_ray.dagster_internals import (
    CheckStepHealthResult,
    EngineEventData,
    ExecutionPlan,
    IStepContext,
    PlanOrchestrationContext,
    StepFailureData,
    StepHandler,
    StepHandlerContext,
    serializable_error_info_from_exc_info,
)
from dagster_ray.dagster_typing import STEP_EVENTS
from dagster_ray.dashboard import dashboard_link
from dagster_ray.errors import (
    CallTimeoutError,
    ComponentTrap,
    DagsterRayError,
    InvalidConfigError,
    UnavailableError,
)
from dagster_ray.executor.event_log import ReportedEnds, reported_attempts
from dagster_ray.executor.step_ends import unhealthy_reason
from dagster_ray.executor.step_plans import (
    StepPlans,
    reference,
    step_and_attempt,
    task_spec,
    without_jobs,
)
from dagster_ray.missing_jobs import MissingJobs
from dagster_ray.patience import check_limit, unreachable_seconds
from dagster_ray.pending import PendingReason
from dagster_ray.reachability import Outage, Reachability
from dagster_ray.reconcile.reconciliation import reconcile_run
from dagster_ray.specs import attributes

# The status of a step's job, unless Ray could not be asked.
_Answer = JobStatus | Literal["unreachable"]

# The age at which the status of a running job is read again.
_STATUS_SECONDS = 2.0
_PENDING_SUBMIT_SECONDS = 30.0
# How long the end of a run waits for the jobs that were given up.
_GIVEN_UP_SECONDS = 60.0


@dataclass
class _Step:
    """A step that this run submitted to Ray."""

    key: str
    attempt: int
    ref: StepRef
    submit: PendingCall[list[Placement | Exception]] | None = None
    failure: DagsterRayError | None = None
    answer: _Answer | None = None
    # Why the step is pending, as far as the user knows, and since when.
    pending: PendingReason = field(default_factory=PendingReason)
    # The job succeeded, but the event log does not contain the step's end yet.
    awaits_event: bool = False


class RayStepHandler(StepHandler):
    """Submits steps to a backend, and checks all of them with one call."""

    def __init__(
        self, backend: Backend, options: Mapping[str, object], unreachable_timeout: float | None
    ) -> None:
        self._backend = backend
        self._component = ExecutorClient(backend)
        self._options = options
        self._reachability = Reachability(
            unreachable_seconds(backend.config, unreachable_timeout),
            interval=ray_access.current().health_check_seconds,
        )
        self._check_limit = check_limit(backend.config)
        self._given_up = backend.given_up
        self._outage: Outage | None = None
        self._missing = MissingJobs()
        self._steps: dict[str, _Step] = {}
        self._stopped = False
        self._ends = ReportedEnds()
        self._has_jobs = False
        self._checked_at = float("-inf")
        # Log lines of components, until a step's log is available.
        self._lines: deque[tuple[str, str]] = deque(maxlen=1000)
        self._plans = StepPlans(self._component, self.all_options, self._append_line)

    @property
    def name(self) -> str:
        return "RayStepHandler"

    def all_options(self) -> dict[str, object]:
        """Returns the options of steps with those of the backend, which may have to be loaded."""
        return {**self._options, **self._backend.options}

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        key, attempt = step_and_attempt(step_handler_context)
        step_context = step_handler_context.get_step_context(key)
        self._pass_lines_on(step_context)
        plan = self._plans.take(step_handler_context)
        try:
            ref = plan.reference
        except InvalidConfigError:
            # A retry would fail in the same way. An exception would also fail the other steps.
            error = serializable_error_info_from_exc_info(sys.exc_info())
            yield STEP_EVENTS.step_failure_event(
                step_context, StepFailureData(error=error, user_failure_data=None)
            )
            return
        submission_id = ref["job"]["submission_id"]
        yield STEP_EVENTS.step_worker_starting(
            step_context,
            message=f'Executing step "{key}" in Ray job {submission_id}.',
            metadata=self._job_metadata(ref),
        )
        self._has_jobs = True
        submit = self._component.start_launch(
            [plan.spec], write=self._append_line, directories=plan.directories
        )
        self._steps[key] = _Step(key, attempt, ref, submit)

    @property
    def backend(self) -> Backend:
        """The backend that executes the steps."""
        return self._backend

    def has_tasks(self, plan_context: PlanOrchestrationContext, plan: ExecutionPlan) -> bool:
        """Returns whether the component places any step of a run as a Ray task.

        Raises the error of a component that cannot be asked.
        """
        try:
            options = self.all_options()
            specs = [task_spec(plan_context, step, 0, options)[0] for step in plan.steps]
            placements = self._component.plan(specs, write=self._append_line)
        except InvalidConfigError:
            # Each step reports the error when it is launched.
            return False
        return any(isinstance(one, dict) and "task" in one for one in placements)

    def is_local(self, context: StepHandlerContext) -> bool:
        """Returns whether the run worker executes a step locally. Plans the step."""
        is_local = self._plans.plan(context).placement == "local"
        if is_local:
            self._plans.take(context)
        return is_local

    def finish(self, run_id: str, tags: Iterable[Mapping[str, str]]) -> None:
        """Stops jobs that were given up, and releases what the steps share, such as a cluster.

        `tags` are the tags of the run's steps.
        """
        self._given_up.wait(_GIVEN_UP_SECONDS)
        overrides = {step[USER_DEFINED_RAY_KEY] for step in tags if USER_DEFINED_RAY_KEY in step}
        distinct = [attributes({USER_DEFINED_RAY_KEY: text}) for text in sorted(overrides)]
        options = self.all_options() | ({} if self._has_jobs else without_jobs(self._backend))
        self._component.finish(run_id, json.dumps(options), distinct)

    def stop_leftovers(self, instance: DagsterInstance, run_id: str) -> list[Leftover]:
        """Stops what the run's killed step workers have left, and returns it."""
        return reconcile_run(instance, self._backend, run_id, write=self._append_line)

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        step = self._tracked(step_handler_context)
        step_context = step_handler_context.get_step_context(step.key)
        self._pass_lines_on(step_context)
        self._settle(step, step_context)
        if step.submit is not None:
            return CheckStepHealthResult.healthy()
        if step.failure is not None:
            self._forget(step, step.failure)
            return CheckStepHealthResult.unhealthy(
                f"The step was not submitted to Ray: {step.failure}"
            )
        is_old = time.monotonic() - self._checked_at > _STATUS_SECONDS
        if step.answer is None or (is_old and not _has_ended(step.answer)):
            self._check_all(step_context)
        answer, step.answer = step.answer, None
        return self._judge(step, answer or "unreachable", step_handler_context)

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        step = self._tracked(step_handler_context)
        step_context = step_handler_context.get_step_context(step.key)
        yield DagsterEvent.engine_event(
            step_context,
            f"Stopping Ray job {step.ref['job']['submission_id']} for step",
            EngineEventData(metadata=self._job_metadata(step.ref)),
        )
        # Dagster terminates one step after the other. A job may use its whole grace period, so the
        # first request stops all jobs.
        if not self._stopped:
            self._stopped = True
            try:
                self.stop_all(
                    step_handler_context.instance, step_handler_context.dagster_run.run_id
                )
            except DagsterRayError:
                yield DagsterEvent.engine_event(
                    step_context,
                    "The Ray jobs of the running steps could not be stopped",
                    EngineEventData(error=serializable_error_info_from_exc_info(sys.exc_info())),
                )
        self._pass_lines_on(step_context)

    def stop_all(self, instance: DagsterInstance, run_id: str) -> list[str]:
        """Stops every step that has not reported its end, and returns the submission ids."""
        reported = reported_attempts(instance, run_id)
        running = [step for step in self._steps.values() if reported[step.key] <= step.attempt]
        deadline = time.monotonic() + _PENDING_SUBMIT_SECONDS
        for step in running:
            if step.submit is None:
                continue
            # Wait for the submission: a job that is submitted after the stop would still start.
            try:
                [placement] = step.submit.result(max(deadline - time.monotonic(), 0.1))
                step.ref = reference(placement)
            except (DagsterRayError, TimeoutError) as error:
                step.submit.cancel()
                self._append_line("warning", f"step {step.key}: its submission failed: {error}")
            step.submit = None
        if running:
            self._component.terminate([step.ref for step in running], write=self._append_line)
        self._steps.clear()
        return [step.ref["job"]["submission_id"] for step in running]

    def _tracked(self, context: StepHandlerContext) -> _Step:
        """Returns the tracked step. A step of an earlier run worker is located by its plan."""
        key, attempt = step_and_attempt(context)
        step = self._steps.get(key)
        if step is None or step.attempt != attempt:
            ref = self._plans.take(context).reference
            self._has_jobs = True
            step = self._steps[key] = _Step(key, attempt, ref)
        return step

    def _settle(self, step: _Step, step_context: IStepContext) -> None:
        """Stores the result of a submission that has ended."""
        if step.submit is None or not step.submit.done():
            return
        submit, step.submit = step.submit, None
        planned = step.ref["job"]["submission_id"]
        try:
            [placement] = submit.result()
            step.ref = reference(placement)
        except DagsterRayError as error:
            step.failure = error
            return
        self._reached(step_context)
        submission_id = step.ref["job"]["submission_id"]
        if submission_id != planned:
            DagsterEvent.engine_event(
                step_context,
                f"The step runs in Ray job {submission_id}, because the submission id {planned} "
                "belongs to a job that has ended.",
                EngineEventData(metadata=self._job_metadata(step.ref)),
            )

    def _forget(self, step: _Step, error: DagsterRayError) -> None:
        self._steps.pop(step.key, None)
        is_lost = isinstance(error, UnavailableError) and error.maybe_applied
        if is_lost or isinstance(error, CallTimeoutError | ComponentTrap):
            # The job may have been submitted, and must not run beside Dagster's retry.
            self._give_up(step, may_arrive=True)
            self._given_up.contact()

    def _give_up(self, step: _Step, *, may_arrive: bool) -> None:
        """Remembers a step's job, which is stopped at the next contact with Ray."""
        ref = step.ref
        self._given_up.add(
            ref["job"]["submission_id"],
            lambda: self._component.start_terminate([ref], write=self._append_line),
            is_missing=lambda statuses: all(one["state"] == "missing" for one in statuses),
            report=lambda message: self._append_line("info", message),
            may_arrive=may_arrive,
        )

    def _reached(self, step_context: IStepContext) -> None:
        """Ends an outage, because Ray has answered."""
        self._reachability.succeeded(lambda message: _report(step_context, message))
        self._outage = None
        self._given_up.contact()

    def _check_all(self, step_context: IStepContext) -> None:
        """Checks all steps with one call. The next checks use the statuses of the other steps."""
        for step in self._steps.values():
            self._settle(step, step_context)
        # With many steps, Dagster's round of checks takes longer than a status stays fresh. A step
        # that Dagster has not reached yet keeps its final status and `awaits_event`.
        steps = [
            step
            for step in self._steps.values()
            if step.submit is None and step.failure is None and not _has_ended(step.answer)
        ]
        refs = [step.ref for step in steps]

        def report(message: str) -> None:
            _report(step_context, message)

        answers: list[_Answer]
        try:
            statuses = self._reachability.check(
                lambda: self._component.check(
                    refs, write=self._append_line, timeout=self._check_limit
                )
            )
        except DagsterRayError as error:
            self._outage = self._reachability.failed(error, report)
            answers = ["unreachable"] * len(steps)
        else:
            self._reached(step_context)
            answers = [self._missing.settle(status, report) for status in statuses]
        self._checked_at = time.monotonic()
        for step, answer in zip(steps, answers, strict=True):
            step.answer = answer

    def _judge(
        self,
        step: _Step,
        answer: _Answer,
        context: StepHandlerContext,
    ) -> CheckStepHealthResult:
        if answer == "unreachable":
            return self._judge_unreachable(step, context)
        state = answer["state"]
        step.ref["job"]["submission_id"] = job = answer["submission_id"]
        if not answer["ended"]:
            waits_for = step.pending.changed(answer)
            if waits_for is not None:
                DagsterEvent.engine_event(
                    context.get_step_context(step.key),
                    f"Ray job {job} for step {step.key} is pending: {waits_for}",
                    EngineEventData(metadata=self._job_metadata(step.ref)),
                )
            return CheckStepHealthResult.healthy()
        if self._has_reported(step, context):
            return CheckStepHealthResult.healthy()
        if state == "succeeded" and not step.awaits_event:
            # The event log may be read from a replica that lags behind.
            step.awaits_event = True
            return CheckStepHealthResult.healthy()
        return CheckStepHealthResult.unhealthy(unhealthy_reason(answer, step.key))

    def _judge_unreachable(self, step: _Step, context: StepHandlerContext) -> CheckStepHealthResult:
        """Reports a step as healthy until the outage exceeds `unreachable_timeout`."""
        if self._outage is None or not self._outage.is_final:
            return CheckStepHealthResult.healthy()
        if self._has_reported(step, context):
            return CheckStepHealthResult.healthy()
        self._steps.pop(step.key, None)
        self._give_up(step, may_arrive=False)
        return CheckStepHealthResult.unhealthy(f"{self._outage}.")

    def _has_reported(self, step: _Step, context: StepHandlerContext) -> bool:
        run_id = context.dagster_run.run_id
        return self._ends.has(context.instance, run_id, step.key, step.attempt)

    def _job_metadata(self, ref: StepRef) -> dict[str, Any]:
        job = ref["job"]
        link = dashboard_link(job, self._backend.config.dashboard_link)
        return {"Ray Submission ID": job["submission_id"], **link}

    def _append_line(self, level: str, message: str) -> None:
        self._lines.append((level, message))

    def _pass_lines_on(self, step_context: IStepContext) -> None:
        while self._lines:
            level, message = self._lines.popleft()
            getattr(step_context.log, level)(message)


def _report(step_context: IStepContext, message: str) -> None:
    DagsterEvent.engine_event(step_context, message, EngineEventData())


def _has_ended(answer: _Answer | None) -> bool:
    return answer is not None and answer != "unreachable" and answer["ended"]
