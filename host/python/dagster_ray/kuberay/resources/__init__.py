"""The KubeRay resources under their module paths in `dagster-ray` from PyPI."""

from dagster_ray.kuberay.configs import RayClusterConfig, RayClusterSpec, RayJobConfig, RayJobSpec
from dagster_ray.kuberay.resources.raycluster import KubeRayCluster, KubeRayClusterClientResource
from dagster_ray.kuberay.resources.rayjob import KubeRayInteractiveJob, KubeRayJobClientResource

__all__ = [
    "KubeRayCluster",
    "KubeRayClusterClientResource",
    "KubeRayInteractiveJob",
    "KubeRayJobClientResource",
    "RayClusterConfig",
    "RayClusterSpec",
    "RayJobConfig",
    "RayJobSpec",
]
