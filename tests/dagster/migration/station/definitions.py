"""The station's Dagster code location."""

import dagster as dg
from dagster_ray import PipesRayJobClient, PipesRayJobMessageReader, ray_executor
from dagster_ray.kuberay import (
    KubeRayClusterClientResource,
    PipesKubeRayJobClient,
    cleanup_expired_kuberay_clusters,
    delete_kuberay_clusters,
    delete_kuberay_clusters_op,
)
from dagster_ray.kuberay.ops import DeleteKubeRayClustersConfig, RayClusterRef

from . import assets, clusters, settings

ON_RAY = ray_executor.configured({"ray": {"num_cpus": 0, "env_vars": ["STATION=north"]}})


@dg.job
def end_of_season() -> None:
    """Removes the station's cluster."""
    delete_kuberay_clusters_op()


SEASON_ENDS = dg.RunConfig(
    ops={
        "delete_kuberay_clusters_op": DeleteKubeRayClustersConfig(
            namespace=settings.NAMESPACE, clusters=[RayClusterRef(name="winter")]
        )
    }
)

hourly = dg.define_asset_job(
    "hourly", selection=["readings", "warmest"], executor_def=ON_RAY, tags={"season": "winter"}
)

defs = dg.Definitions(
    assets=[assets.readings, assets.warmest, assets.squares, assets.reported, assets.forecast],
    jobs=[hourly, end_of_season, delete_kuberay_clusters],
    sensors=[cleanup_expired_kuberay_clusters],
    resources={
        "io_manager": clusters.values(),
        "ray_cluster": clusters.nearby(),
        "pipes": PipesRayJobClient(message_reader=PipesRayJobMessageReader(), timeout=60),
        "kube": PipesKubeRayJobClient(metadata={"season": "winter"}),
        "raycluster_client": KubeRayClusterClientResource(),
    },
)
