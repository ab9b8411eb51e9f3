"""The IO manager under its module path in `dagster-ray` from PyPI."""

from dagster_ray.io.io_manager import (
    DAGSTER_RAY_NAMESPACE,
    DAGSTER_RAY_OBJECT_MAP_NAME,
    RayIOManager,
)

__all__ = ["DAGSTER_RAY_NAMESPACE", "DAGSTER_RAY_OBJECT_MAP_NAME", "RayIOManager"]
