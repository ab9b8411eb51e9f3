"""The client for RayClusters."""

from dagster_ray.kuberay.client.raycluster.client import RayClusterClient, RayClusterStatus

__all__ = ["RayClusterClient", "RayClusterStatus"]
