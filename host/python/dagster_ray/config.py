"""The configuration classes under their module path in earlier releases."""

from dagster_ray.configs import RayDataExecutionOptions, RayExecutionConfig

__all__ = ["RayDataExecutionOptions", "RayExecutionConfig"]
