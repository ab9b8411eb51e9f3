"""Removes the values of a successful run, which no step loads again."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_ray import _library, ray_access
from dagster_ray.dagster_internals import ExecutionPlan, PlanOrchestrationContext

if TYPE_CHECKING:
    from dagster_ray.io.io_manager import RayIOManager

_library.register()

_IO_MANAGER_MODULE = "dagster_ray.io.io_manager"


def remove_values(plan_context: PlanOrchestrationContext, plan: ExecutionPlan) -> None:
    """Removes the values of a run, except assets, from every `RayIOManager` of its job.

    A failure is logged and does not fail the run: values that remain are removed by age.
    """
    if ray_access.current().keeps_run_values:
        return
    job = plan_context.job.get_definition()
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
                manager: RayIOManager = getattr(resources, key)
                removed = manager.delete_values_of_run(plan_context.run_id, plan_context.instance)
        except Exception as error:
            plan_context.log.warning(f"{key}: the run's values could not be removed: {error}")
        else:
            plan_context.log.debug(f"{key}: removed {removed} values of the run.")


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
