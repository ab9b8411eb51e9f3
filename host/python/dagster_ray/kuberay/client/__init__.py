"""Clients for KubeRay's custom resources."""

from dagster_ray.kuberay.client.raycluster.client import RayClusterClient
from dagster_ray.kuberay.client.rayjob.client import RayJobClient

__all__ = ["RayClusterClient", "RayJobClient"]
