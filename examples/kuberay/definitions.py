"""One code base for a developer's machine and for KubeRay. Only `dagster.yaml` and STAGE differ."""

import os

import dagster as dg
from dagster_ray import LocalRay, RayResource, ray_executor
from dagster_ray.kuberay import KubeRayCluster


@dg.asset
def squares(ray_cluster: RayResource) -> dg.MaterializeResult:
    """Computes on the Ray of the resource: on this machine, or on a RayCluster of its own."""
    import ray

    @ray.remote
    def square(number: int) -> int:
        return number**2

    total = sum(ray.get([square.remote(number) for number in range(10)]))
    return dg.MaterializeResult(metadata={"total": total, "cluster": ray_cluster.display_name})


def cluster() -> RayResource:
    """Chooses the resource by a variable that only production sets."""
    if os.environ.get("STAGE") == "production":
        return KubeRayCluster(image="ghcr.io/we/pipelines:42")
    return LocalRay()


defs = dg.Definitions(assets=[squares], resources={"ray_cluster": cluster()}, executor=ray_executor)
