"""Ray on Kubernetes through KubeRay. Public names are imported on first use."""

from typing import TYPE_CHECKING, Any

from dagster_ray import _library, lazy_names

if TYPE_CHECKING:
    from dagster_ray.kuberay.base import BaseKubeRayResource
    from dagster_ray.kuberay.client import RayClusterClient, RayJobClient
    from dagster_ray.kuberay.client_resources import (
        KubeRayClient,
        KubeRayClusterClientResource,
        KubeRayJobClientResource,
        RayClusterClientResource,
    )
    from dagster_ray.kuberay.cluster import (
        KubeRayCluster,
    )
    from dagster_ray.kuberay.configs import (
        DEFAULT_DEPLOYMENT_NAME,
        AuthOptions,
        ClusterSharing,
        ClusterSharingHeartbeat,
        CollectorOptions,
        HistoryServerOptions,
        InteractiveRayJobConfig,
        InteractiveRayJobSpec,
        MatchDagsterLabels,
        NetworkPolicyConfig,
        RayClusterConfig,
        RayClusterSpec,
        RayClusterUpgradeStrategy,
        RayJobConfig,
        RayJobSpec,
        TLSOptions,
        in_k8s,
    )
    from dagster_ray.kuberay.interactive_job import (
        KubeRayInteractiveJob,
    )
    from dagster_ray.kuberay.jobs import (
        cleanup_kuberay_clusters,
        cleanup_old_ray_clusters,
        delete_kuberay_clusters,
    )
    from dagster_ray.kuberay.ops import (
        CleanupKubeRayClustersConfig,
        DeleteKubeRayClustersConfig,
        RayClusterRef,
        cleanup_kuberay_clusters_op,
        delete_kuberay_clusters_op,
    )
    from dagster_ray.kuberay.pipes import PipesKubeRayJobClient
    from dagster_ray.kuberay.schedules import (
        cleanup_kuberay_clusters_daily,
        cleanup_old_ray_clusters_schedule,
    )
    from dagster_ray.kuberay.sensors import (
        cleanup_expired_kuberay_clusters,
    )
    from dagster_ray.kuberay.service import KubeRayServe, RayServeDeployment, ray_serve_asset
    from dagster_ray.resources import RayResource

__all__ = [
    "DEFAULT_DEPLOYMENT_NAME",
    "AuthOptions",
    "BaseKubeRayResource",
    "CleanupKubeRayClustersConfig",
    "ClusterSharing",
    "ClusterSharingHeartbeat",
    "CollectorOptions",
    "DeleteKubeRayClustersConfig",
    "HistoryServerOptions",
    "InteractiveRayJobConfig",
    "InteractiveRayJobSpec",
    "KubeRayClient",
    "KubeRayCluster",
    "KubeRayClusterClientResource",
    "KubeRayInteractiveJob",
    "KubeRayJobClientResource",
    "KubeRayServe",
    "MatchDagsterLabels",
    "NetworkPolicyConfig",
    "PipesKubeRayJobClient",
    "RayClusterClient",
    "RayClusterClientResource",
    "RayClusterConfig",
    "RayClusterRef",
    "RayClusterSpec",
    "RayClusterUpgradeStrategy",
    "RayJobClient",
    "RayJobConfig",
    "RayJobSpec",
    "RayResource",
    "RayServeDeployment",
    "TLSOptions",
    "cleanup_expired_kuberay_clusters",
    "cleanup_kuberay_clusters",
    "cleanup_kuberay_clusters_daily",
    "cleanup_kuberay_clusters_op",
    "cleanup_old_ray_clusters",
    "cleanup_old_ray_clusters_schedule",
    "delete_kuberay_clusters",
    "delete_kuberay_clusters_op",
    "in_k8s",
    "ray_serve_asset",
]

_library.register()


def __getattr__(name: str) -> Any:
    return lazy_names.find(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
