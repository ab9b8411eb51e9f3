"""The run launcher under its module path in earlier releases."""

from dagster_ray.launcher import RayRunLauncher

__all__ = ["RayRunLauncher"]
