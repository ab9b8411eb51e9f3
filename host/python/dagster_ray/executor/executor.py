"""The executor that runs each step on Ray."""

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, cast

import dagster as dg

from dagster_ray import ray_access
from dagster_ray.backend import Backend
from dagster_ray.configs import BackendConfig, BackendKeywords, RayExecutorConfig, flatten, schema
from dagster_ray.contract import FieldError
from dagster_ray.dagster_internals import (
    ActiveExecution,
    ExecuteStepArgs,
    ExecutionPlan,
    ExecutionStep,
    InstanceConcurrencyContext,
    PlanOrchestrationContext,
    RetryMode,
    StepDelegatingExecutor,
    StepHandlerContext,
    get_retries_config,
    get_tag_concurrency_limits_config,
    multiple_process_executor_requirements,
)
from dagster_ray.deployment import is_agent
from dagster_ray.errors import DagsterRayError, InvalidConfigError, UnsupportedError
from dagster_ray.executor.delegated_steps import DelegatedSteps
from dagster_ray.executor.event_log import POLL_SECONDS
from dagster_ray.executor.known_state import known_to_step
from dagster_ray.executor.local_steps import LocalStepHandler
from dagster_ray.executor.step_dispatcher import StepDispatcher
from dagster_ray.executor.step_handler import RayStepHandler
from dagster_ray.executor.task_loop import TaskLoop
from dagster_ray.instance_policy import check_executor
from dagster_ray.io.run_values import remove_values
from dagster_ray.launcher.run_launcher import RayRunLauncher
from dagster_ray.reconcile.reconciliation import describe
from dagster_ray.specs import run_options

_POLL_VARIABLE = "DAGSTER_STEP_DELEGATING_EXECUTOR_SLEEP_SECONDS"
_INHERIT = "inherit_job_submission_client_from_ray_run_launcher"
# Settings that an inherited backend has already. An own address is ignored, as by `dagster-ray`.
_OF_THE_BACKEND = sorted(BackendKeywords.__annotations__.keys() - {"unreachable_timeout"})
_ONE_BACKEND = f"write it in the launcher's configuration, or set {_INHERIT} to false"


class RayExecutor(StepDelegatingExecutor):
    """Dagster's step-delegating executor, which also stops the Ray jobs of a canceled run.

    A run with steps that are Ray tasks has another loop.
    """

    def __init__(
        self, step_handler: RayStepHandler, config: Mapping[str, object], **kwargs: Any
    ) -> None:
        """`config` is the executor's own configuration, which the run's config may contain."""
        local_steps = LocalStepHandler()
        self.health_check_seconds = ray_access.current().health_check_seconds
        super().__init__(
            StepDispatcher(step_handler, local_steps),
            sleep_seconds=None if _POLL_VARIABLE in os.environ else POLL_SECONDS,
            check_step_health_interval_seconds=self.health_check_seconds,
            should_verify_step=True,
            **kwargs,
        )
        self._ray_steps = step_handler
        self._local_steps = local_steps
        self._config = config
        self._limits: list[dict[str, Any]] | None = kwargs.get("tag_concurrency_limits")
        # The ids of the events that `new_events` has returned.
        self._seen: set[int] = set()
        # The attempt and the arguments of each step's worker, by step key.
        self._arguments: dict[str, tuple[int, ExecuteStepArgs]] = {}

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Generator[dg.DagsterEvent, Any, None]:
        check_executor(
            plan_context.instance,
            self._config,
            plan_context.plan_data.dagster_run.run_config,
            plan_context.job.get_definition().run_config,
        )
        failed = ended = interrupted = False
        try:
            for event in self._execute_steps(plan_context, execution_plan):
                failed = failed or event.is_step_failure
                yield event
            ended = True
            if not failed:
                # A failed run may be re-executed from the failed step, which loads these values.
                remove_values(plan_context, execution_plan)
        except dg.DagsterExecutionInterruptedError:
            interrupted = True
            raise
        finally:
            if not ended:
                self._local_steps.interrupt(as_worker=interrupted)
            try:
                if ended or not self._is_resumed(plan_context, interrupted):
                    self._end(plan_context, execution_plan, succeeded=ended and not failed)
            finally:
                # A step that has reported its end may still be cleaning up.
                self._local_steps.join()

    def _execute_steps(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        if not self._ray_steps.has_tasks(plan_context, execution_plan):
            return super().execute(plan_context, execution_plan)
        return TaskLoop(
            self,
            self._ray_steps.backend,
            self._ray_steps.all_options,
            DelegatedSteps(self, self._step_handler, plan_context),
            plan_context,
            execution_plan,
        ).execute()

    def active_execution(
        self, plan: ExecutionPlan, concurrency: InstanceConcurrencyContext
    ) -> ActiveExecution:
        """Returns the state machine of a run, with the limits of this executor."""
        return ActiveExecution(
            plan,
            retry_mode=self.retries,
            max_concurrent=self._max_concurrent,
            tag_concurrency_limits=self._limits,
            instance_concurrency_context=concurrency,
            step_dependency_config=self.step_dependency_config,
        )

    def handler_context(
        self,
        plan_context: PlanOrchestrationContext,
        step: ExecutionStep,
        active: ActiveExecution,
    ) -> StepHandlerContext:
        """Returns the context of a step handler for one step."""
        return self._get_step_handler_context(plan_context, [step], active)

    def new_events(self, plan_context: PlanOrchestrationContext) -> list[dg.DagsterEvent]:
        """Returns the events in Dagster's event log that the last call did not return."""
        events = self._pop_events(plan_context.instance, plan_context.run_id, self._seen)
        return list(events)

    def _get_step_handler_context(
        self,
        plan_context: PlanOrchestrationContext,
        steps: Sequence[ExecutionStep],
        active_execution: ActiveExecution,
    ) -> StepHandlerContext:
        [step] = steps
        return StepHandlerContext(
            instance=plan_context.instance,
            plan_context=plan_context,
            steps=list(steps),
            execute_step_args=self._step_arguments(plan_context, step, active_execution),
            dagster_run=plan_context.dagster_run,
        )

    def _step_arguments(
        self,
        plan_context: PlanOrchestrationContext,
        step: ExecutionStep,
        active_execution: ActiveExecution,
    ) -> ExecuteStepArgs:
        """Returns the arguments of a step's worker.

        They are built once for an attempt. Each health check asks for them again, and the state of
        a run with thousands of steps takes long to reduce.
        """
        state = active_execution.get_known_state()
        attempt = state.get_retry_state().get_attempt_count(step.key)
        known = self._arguments.get(step.key)
        if known is not None and known[0] == attempt:
            return known[1]
        # The arguments travel in one environment variable, which Linux limits to 128 KiB. The base
        # class passes the state of the whole run.
        args = ExecuteStepArgs(
            job_origin=plan_context.reconstructable_job.get_python_origin(),
            run_id=plan_context.run_id,
            step_keys_to_execute=[step.key],
            instance_ref=plan_context.instance.get_ref(),
            retry_mode=self.retries.for_inner_plan(),
            known_state=known_to_step(state, step),
            should_verify_step=self._should_verify_step,
            print_serialized_events=False,
        )
        self._arguments[step.key] = attempt, args
        return args

    def _is_resumed(self, plan_context: PlanOrchestrationContext, interrupted: bool) -> bool:
        """Whether Dagster starts another worker for the run, which continues its steps."""
        # An exception other than an interrupt fails the run, and a run that is being canceled ends.
        instance, run_id = plan_context.instance, plan_context.run_id
        if not interrupted or not instance.run_will_resume(run_id):
            return False
        run = instance.get_run_by_id(run_id)
        return run is None or run.status != dg.DagsterRunStatus.CANCELING

    def _end(
        self,
        plan_context: PlanOrchestrationContext,
        execution_plan: ExecutionPlan,
        *,
        succeeded: bool,
    ) -> None:
        if not succeeded:
            self._stop_steps(plan_context)
        # Also if a step could not be stopped: it must not run on, and it ends with its cluster.
        self._finish(plan_context, execution_plan)
        if not succeeded:
            self._stop_leftovers(plan_context)

    def _finish(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> None:
        tags = [step.tags or {} for step in execution_plan.steps]
        try:
            self._ray_steps.finish(plan_context.run_id, tags)
        except DagsterRayError as error:
            plan_context.log.warning(f"The run's shared resources could not be removed: {error}")

    def _stop_leftovers(self, plan_context: PlanOrchestrationContext) -> None:
        """Stops what killed step workers have left, such as their Pipes scripts."""
        try:
            found = self._ray_steps.stop_leftovers(plan_context.instance, plan_context.run_id)
        except UnsupportedError:
            return
        except DagsterRayError as error:
            plan_context.log.warning(f"What the run's steps left could not be stopped: {error}")
            return
        for leftover in found:
            plan_context.log.info(describe(leftover))

    def _stop_steps(self, plan_context: PlanOrchestrationContext) -> None:
        try:
            jobs = self._ray_steps.stop_all(plan_context.instance, plan_context.run_id)
        except DagsterRayError as error:
            plan_context.log.error(f"The Ray jobs of the run's steps could not be stopped: {error}")
            return
        for job in jobs:
            plan_context.log.info(f"Stopped Ray job {job}: the run is over.")


@dg.executor(
    name="ray",
    config_schema={
        **schema(RayExecutorConfig),
        "max_concurrent": dg.Field(
            dg.Noneable(dg.Int),
            is_required=False,
            description="Maximum number of concurrent steps. Default: no limit.",
        ),
        "tag_concurrency_limits": get_tag_concurrency_limits_config(),
        "retries": get_retries_config(),
    },
    requirements=multiple_process_executor_requirements(),
)
def ray_executor(init_context: dg.InitExecutorContext) -> RayExecutor:
    """Executes each step in a Ray job of its own, or as a Ray task, as its options say."""
    given = dict(init_context.executor_config)
    max_concurrent: Any = given.pop("max_concurrent", None)
    limits: Any = given.pop("tag_concurrency_limits", None)
    # The only key is the name of the mode.
    [retry_mode] = cast("Mapping[str, object]", given.pop("retries", None) or {"enabled": {}})
    config = flatten(given)
    backend = _backend(init_context, config)
    options = run_options(config)
    handler = RayStepHandler(backend, options, config.get("unreachable_timeout"))
    return RayExecutor(
        handler,
        config,
        retries=RetryMode(retry_mode),
        max_concurrent=max_concurrent or None,
        tag_concurrency_limits=limits,
    )


def _backend(init_context: dg.InitExecutorContext, config: dict[str, Any]) -> Backend:
    inherit = config.get(_INHERIT)
    if inherit is None:
        inherit = config.get("backend") is None
    # An agent's launcher is never Ray's, and it needs packages that only the agent has.
    if inherit and not is_agent(init_context.instance):
        launcher = init_context.instance.run_launcher
        if isinstance(launcher, RayRunLauncher):
            _refuse_own_backend(config)
            return launcher.backend
    # `RayExecutor.execute` checks who chose the fields.
    root = init_context.instance.root_directory
    return Backend(BackendConfig.select(config), policy_root=root, is_checked=True)


def _refuse_own_backend(config: Mapping[str, object]) -> None:
    """Raises an error if the configuration has a setting of a backend, which is the launcher's."""
    fields: list[FieldError] = [
        {"path": key, "problem": "the backend is the run launcher's", "hint": _ONE_BACKEND}
        for key in _OF_THE_BACKEND
        if config.get(key) is not None
    ]
    if fields:
        keys = ", ".join(field["path"] for field in fields)
        raise InvalidConfigError(
            f"{keys}: cannot be set, because the executor inherits the run launcher's backend; "
            f"{_ONE_BACKEND}",
            fields=fields,
        )


__all__ = ["RayExecutor", "RayStepHandler", "ray_executor"]
