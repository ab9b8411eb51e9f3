"""The IO manager, under its earlier module path."""

from dagster_ray.core.io_manager import RayIOManager

__all__ = ["RayIOManager"]
