"""Ray on Kubernetes through KubeRay. The names are loaded when they are first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster_ray.kuberay.client import (
        KubeRayClient,
        KubeRayClusterClientResource,
        KubeRayJobClientResource,
        RayClusterClient,
        RayClusterClientResource,
        RayJobClient,
    )
    from dagster_ray.kuberay.cluster import KubeRayCluster
    from dagster_ray.kuberay.configs import (
        ClusterSharing,
        ClusterSharingHeartbeat,
        MatchDagsterLabels,
        RayClusterConfig,
        RayClusterSpec,
        RayJobConfig,
        RayJobSpec,
        in_k8s,
    )
    from dagster_ray.kuberay.interactive_job import KubeRayInteractiveJob
    from dagster_ray.kuberay.jobs import (
        cleanup_kuberay_clusters,
        cleanup_old_ray_clusters,
        delete_kuberay_clusters,
    )
    from dagster_ray.kuberay.ops import cleanup_kuberay_clusters_op, delete_kuberay_clusters_op
    from dagster_ray.kuberay.schedules import cleanup_kuberay_clusters_daily
    from dagster_ray.kuberay.sensors import cleanup_expired_kuberay_clusters

_HOMES = {
    "ClusterSharing": "configs",
    "ClusterSharingHeartbeat": "configs",
    "KubeRayClient": "client",
    "KubeRayCluster": "cluster",
    "KubeRayClusterClientResource": "client",
    "KubeRayInteractiveJob": "interactive_job",
    "KubeRayJobClientResource": "client",
    "MatchDagsterLabels": "configs",
    "RayClusterClient": "client",
    "RayClusterClientResource": "client",
    "RayClusterConfig": "configs",
    "RayClusterSpec": "configs",
    "RayJobClient": "client",
    "RayJobConfig": "configs",
    "RayJobSpec": "configs",
    "cleanup_expired_kuberay_clusters": "sensors",
    "cleanup_kuberay_clusters": "jobs",
    "cleanup_kuberay_clusters_daily": "schedules",
    "cleanup_kuberay_clusters_op": "ops",
    "cleanup_old_ray_clusters": "jobs",
    "delete_kuberay_clusters": "jobs",
    "delete_kuberay_clusters_op": "ops",
    "in_k8s": "configs",
}

__all__ = [
    "ClusterSharing",
    "ClusterSharingHeartbeat",
    "KubeRayClient",
    "KubeRayCluster",
    "KubeRayClusterClientResource",
    "KubeRayInteractiveJob",
    "KubeRayJobClientResource",
    "MatchDagsterLabels",
    "RayClusterClient",
    "RayClusterClientResource",
    "RayClusterConfig",
    "RayClusterSpec",
    "RayJobClient",
    "RayJobConfig",
    "RayJobSpec",
    "cleanup_expired_kuberay_clusters",
    "cleanup_kuberay_clusters",
    "cleanup_kuberay_clusters_daily",
    "cleanup_kuberay_clusters_op",
    "cleanup_old_ray_clusters",
    "delete_kuberay_clusters",
    "delete_kuberay_clusters_op",
    "in_k8s",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
