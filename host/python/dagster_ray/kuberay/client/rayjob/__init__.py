"""The client for RayJobs."""

from dagster_ray.kuberay.client.rayjob.client import RayJobClient

__all__ = ["RayJobClient"]
