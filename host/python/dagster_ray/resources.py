"""The resources, under their earlier module path."""

from dagster_ray._base.resources import BaseRayResource, RayResource

__all__ = ["BaseRayResource", "RayResource"]
