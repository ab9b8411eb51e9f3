"""The IO manager under its module path in earlier releases."""

from dagster_ray.io.io_manager import RayIOManager

__all__ = ["RayIOManager"]
