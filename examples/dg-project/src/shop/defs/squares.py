"""An asset in Python, which uses the resource that `ray/defs.yaml` makes."""

import dagster as dg
from dagster_ray import RayResource


@dg.asset(deps=["model"], kinds={"ray"})
def squares(context: dg.AssetExecutionContext, ray_cluster: RayResource) -> None:
    """Computes squares with Ray tasks."""
    import ray

    @ray.remote
    def square(number: int) -> int:
        return number * number

    found = ray.get([square.remote(number) for number in range(4)])
    context.log.info(f"the squares are {found}")
