"""The executor under its module path in earlier releases."""

from dagster_ray.core.executor import RayStepHandler, ray_executor

__all__ = ["RayStepHandler", "ray_executor"]
