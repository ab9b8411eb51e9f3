"""The component's decisions about steps that have not been launched."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from dagster import DagsterInstance, DagsterRun

from dagster_ray.contract import (
    Caller,
    DescribeClient,
    ExecutorClient,
    Placement,
    StepRef,
    StepSpec,
    Write,
)
from dagster_ray.dagster_internals import (
    IExecutionStep,
    PlanOrchestrationContext,
    StepHandlerContext,
)
from dagster_ray.default_namespace import worker_namespace
from dagster_ray.deployment import deployment_id
from dagster_ray.errors import DagsterRayError
from dagster_ray.instance_policy import worker_environment
from dagster_ray.specs import parse_tag, worker_spec
from dagster_ray.telemetry import worker_trace

_COMMAND = ("dagster", "api", "execute_step")


@dataclass
class StepPlan:
    """The component's decision about one step."""

    # `None` if the configuration is invalid.
    planned: StepSpec | None
    directories: set[str]
    placement: Placement | Exception

    @property
    def spec(self) -> StepSpec:
        """The spec of a step that can be launched. Raises the step's error."""
        if self.planned is None:
            raise cast(Exception, self.placement)
        return self.planned

    @property
    def reference(self) -> StepRef:
        """The reference of a step that runs on Ray. Raises the step's error."""
        return reference(self.placement)


class StepPlans:
    """Plans each attempt of a step once."""

    def __init__(
        self, component: ExecutorClient, options: Callable[[], Mapping[str, object]], write: Write
    ) -> None:
        """`options` returns the options of all steps. `write` receives log lines."""
        self._component = component
        self._options = options
        self._write = write
        # The policy of the instance, as the run's steps receive it.
        self._policy: dict[str, str] | None = None
        # By step key and attempt.
        self._plans: dict[tuple[str, int], StepPlan] = {}

    def plan(self, context: StepHandlerContext) -> StepPlan:
        """Returns a step's plan."""
        key = step_and_attempt(context)
        plan = self._plans.get(key)
        if plan is None:
            spec, directories = None, set[str]()
            placement: Placement | Exception
            try:
                spec, directories = self._spec(context)
                [placement] = self._component.plan([spec], write=self._write)
            except DagsterRayError as error:
                placement = error
            plan = self._plans[key] = StepPlan(spec, directories, placement)
        return plan

    def take(self, context: StepHandlerContext) -> StepPlan:
        """Returns a step's plan and forgets it."""
        plan = self.plan(context)
        del self._plans[step_and_attempt(context)]
        return plan

    def _spec(self, context: StepHandlerContext) -> tuple[StepSpec, set[str]]:
        key, attempt = step_and_attempt(context)
        args = context.execute_step_args
        if self._policy is None:
            self._policy = worker_environment(context.instance)
        return _step_spec(
            context.dagster_run,
            context.instance,
            key,
            attempt,
            argv=args.get_command_args(skip_serialized_namedtuple=True),
            env={
                **{entry["name"]: entry["value"] for entry in args.get_command_env()},
                **worker_namespace(),
                **self._policy,
                **worker_trace(),
            },
            tags=context.step_tags[key],
            options=self._options(),
        )


def task_spec(
    plan_context: PlanOrchestrationContext,
    step: IExecutionStep,
    attempt: int,
    options: Mapping[str, object],
) -> tuple[StepSpec, set[str]]:
    """Returns the spec of a step of a run with Ray tasks.

    Its command is that of a step worker without its arguments: a task has no command.
    """
    return _step_spec(
        plan_context.dagster_run,
        plan_context.instance,
        step.key,
        attempt,
        argv=_COMMAND,
        env={},
        tags=step.tags or {},
        options=options,
    )


def _step_spec(
    run: DagsterRun,
    instance: DagsterInstance,
    key: str,
    attempt: int,
    *,
    argv: Sequence[str],
    env: Mapping[str, str],
    tags: Mapping[str, str],
    options: Mapping[str, object],
) -> tuple[StepSpec, set[str]]:
    spec, directories = worker_spec(
        run,
        deployment=deployment_id(instance),
        attempt=attempt,
        argv=argv,
        payload=None,
        env=env,
        tags=tags,
        override=parse_tag(tags),
        options=options,
    )
    return {**spec, "step_key": key}, directories


def without_jobs(caller: Caller) -> dict[str, object]:
    """Returns the options of `finish` for a run without Ray jobs, whose list need not be read."""
    schema: Any = DescribeClient(caller).describe()["options"].get("executor")
    known: Any = (
        cast("dict[str, Any]", schema).get("properties", {}) if isinstance(schema, dict) else {}
    )
    return {"delete_ended_jobs": False} if "delete_ended_jobs" in known else {}


def step_and_attempt(context: StepHandlerContext) -> tuple[str, int]:
    """Returns the key of the step in a handler's context, and its number of retries."""
    args = context.execute_step_args
    [key] = args.step_keys_to_execute or []
    state = args.known_state
    return key, state.get_retry_state().get_attempt_count(key) if state else 0


def reference(placement: Placement | Exception) -> StepRef:
    """Returns the reference of a step that runs on Ray, or raises the step's error."""
    if isinstance(placement, Exception):
        raise placement
    if placement == "local":
        raise DagsterRayError("the component decided that the step does not run on Ray")
    return placement["job"] if "job" in placement else placement["task"]


__all__ = ["StepPlan", "StepPlans", "reference", "step_and_attempt", "task_spec", "without_jobs"]
