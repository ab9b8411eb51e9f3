"""The resource for a RayJob under its module path in `dagster-ray` from PyPI."""

from dagster_ray.kuberay.client_resources import KubeRayJobClientResource
from dagster_ray.kuberay.configs import InteractiveRayJobConfig, InteractiveRayJobSpec
from dagster_ray.kuberay.interactive_job import KubeRayInteractiveJob

__all__ = [
    "InteractiveRayJobConfig",
    "InteractiveRayJobSpec",
    "KubeRayInteractiveJob",
    "KubeRayJobClientResource",
]
