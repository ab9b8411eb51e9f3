"""Removes the values of a successful run, which no step loads again, and those of ended runs."""

import logging
import threading
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_ray import _library, ray_access
from dagster_ray.dagster_internals import ExecutionPlan, PlanOrchestrationContext

if TYPE_CHECKING:
    from dagster_ray.io.io_manager import RayIOManager

_library.register()

_IO_MANAGER_MODULE = "dagster_ray.io.io_manager"
# How long the end of a run waits for the removal. A connection to Ray takes 1 to 2 s.
_WAIT_SECONDS = 0.1

logger = logging.getLogger("dagster_ray")


def remove_values(plan_context: PlanOrchestrationContext, plan: ExecutionPlan) -> None:
    """Removes the values of a run, except assets, from every `RayIOManager` of its job.

    If this process has to connect to Ray first, the removal continues in the background: the run
    ends, and the process ends after the removal. A failure is logged and does not fail the run:
    values that remain are removed by age.
    """
    if ray_access.current().keeps_run_values:
        return
    run_id, instance = plan_context.run_id, plan_context.instance
    slow: list[RayIOManager] = []
    for key, manager in _managers(plan_context, plan):
        try:
            if manager.prepare(instance):
                slow.append(manager)
                continue
            removed = manager.delete_values_of_run(run_id, instance)
            manager.remove_values_of_ended_runs(instance)
        except Exception as error:
            plan_context.log.warning(f"{key}: the run's values could not be removed: {error}")
        else:
            plan_context.log.debug(f"{key}: removed {removed} values of the run.")
    if slow:
        # Not a daemon: the process waits for it.
        thread = threading.Thread(
            target=_remove_later, args=(slow, run_id, instance), name="removal of values"
        )
        thread.start()
        thread.join(_WAIT_SECONDS)


def _managers(
    plan_context: PlanOrchestrationContext, plan: ExecutionPlan
) -> "list[tuple[str, RayIOManager]]":
    job = plan_context.job.get_definition()
    managers: list[tuple[str, RayIOManager]] = []
    for key in sorted(_resources_with_values(job, plan)):
        try:
            definition = job.resource_defs[key]
            if not _is_ray_io_manager(definition):
                continue
            resources_config: Any = (plan_context.run_config or {}).get("resources", {})
            config = resources_config.get(key, {})
            with dg.build_resources(
                {key: definition}, instance=plan_context.instance, resource_config={key: config}
            ) as resources:
                managers.append((key, getattr(resources, key)))
        except Exception as error:
            plan_context.log.warning(f"{key}: the run's values could not be removed: {error}")
    return managers


def _remove_later(
    managers: "list[RayIOManager]", run_id: str, instance: dg.DagsterInstance
) -> None:
    for manager in managers:
        try:
            manager.delete_values_of_run(run_id)
        except Exception as error:
            # The run's log is closed. Values that end with the run's own cluster are no loss.
            logger.info("The values of run %s could not be removed: %s", run_id, error)
            return
        try:
            manager.remove_values_of_ended_runs(instance)
        except Exception as error:
            # The instance may have been closed with the run.
            logger.info("The values of ended runs could not be removed: %s", error)


def _resources_with_values(job: dg.JobDefinition, plan: ExecutionPlan) -> set[str]:
    """Returns the keys of the IO managers of outputs that are not assets."""
    return {
        job.get_node(step.node_handle).output_def_named(output.name).io_manager_key
        for step in plan.steps
        for output in step.step_outputs
        if output.properties.asset_key is None
    }


def _is_ray_io_manager(definition: dg.ResourceDefinition) -> bool:
    # Dagster before 1.10 has no `configurable_resource_cls`.
    cls = getattr(definition, "configurable_resource_cls", None)
    return any(base.__module__ == _IO_MANAGER_MODULE for base in getattr(cls, "__mro__", ()))


__all__ = ["remove_values"]
