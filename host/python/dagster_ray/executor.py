"""The executor, under its earlier module path."""

from dagster_ray.core.executor import RayStepHandler, ray_executor

__all__ = ["RayStepHandler", "ray_executor"]
