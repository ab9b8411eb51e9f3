"""Runs a job with one op that uses a cluster."""

from typing import Any

import dagster as dg


def use_cluster(resource: Any, body: Any = None, **options: Any) -> dg.ExecuteInProcessResult:
    """Executes a job whose op has the resource `ray_cluster`, and returns the op's result."""

    @dg.op(required_resource_keys={"ray_cluster"})
    def uses(context: dg.OpExecutionContext) -> Any:
        return body(context.resources.ray_cluster) if body else None

    @dg.job(resource_defs={"ray_cluster": resource})
    def job() -> None:
        uses()

    return job.execute_in_process(**options)
