"""The resource for a RayCluster under its module path in `dagster-ray` from PyPI."""

from dagster_ray.kuberay.client_resources import KubeRayClusterClientResource
from dagster_ray.kuberay.cluster import KubeRayCluster

__all__ = ["KubeRayCluster", "KubeRayClusterClientResource"]
