"""The resources under their module path in earlier releases."""

from dagster_ray._base.resources import BaseRayResource, RayResource

__all__ = ["BaseRayResource", "RayResource"]
