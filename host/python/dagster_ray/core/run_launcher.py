"""The run launcher under its module path in `dagster-ray` from PyPI."""

from dagster_ray.launcher import RUN_REF_TAG, RayRunLauncher

__all__ = ["RUN_REF_TAG", "RayRunLauncher"]
