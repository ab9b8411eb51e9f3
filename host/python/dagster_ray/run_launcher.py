"""The run launcher, under its earlier module path."""

from dagster_ray.core.run_launcher import RayRunLauncher

__all__ = ["RayRunLauncher"]
