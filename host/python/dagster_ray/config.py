"""The configuration classes, under their earlier module path."""

from dagster_ray.configs import RayDataExecutionOptions, RayExecutionConfig

__all__ = ["RayDataExecutionOptions", "RayExecutionConfig"]
