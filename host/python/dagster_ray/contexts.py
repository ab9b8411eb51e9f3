"""The run of a Dagster context, and the tags that identify it."""

import dagster as dg

from dagster_ray.configs import run_tags
from dagster_ray.deployment import deployment_name
from dagster_ray.instance_policy import resource_key
from dagster_ray.types import AnyDagsterContext


def get_dagster_run(context: AnyDagsterContext) -> dg.DagsterRun:
    """Returns the run of a context. Raises `RuntimeError` outside a run."""
    run = context.run
    if run is None:
        raise RuntimeError("the context has no Dagster run: it was built outside a run")
    return run


def get_dagster_tags(
    context: AnyDagsterContext, extra_tags: dict[str, str] | None = None
) -> dict[str, str]:
    """Returns the tags that identify the run, and the resource if the context is a resource's."""
    key = resource_key(context)
    return {
        "dagster/deployment": deployment_name(),
        **(extra_tags or {}),
        **run_tags(get_dagster_run(context)),
        **({} if key is None else {"dagster/resource-key": key}),
    }


__all__ = ["get_dagster_run", "get_dagster_tags"]
