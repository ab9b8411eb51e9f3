"""The resources under their module path in `dagster-ray` from PyPI."""

from dagster_ray.resources import BaseRayResource, RayResource

__all__ = ["BaseRayResource", "RayResource"]
