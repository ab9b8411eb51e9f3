"""Resources for development and tests on this machine."""

from dagster_ray.core.resources import LocalRay

__all__ = ["LocalRay"]
