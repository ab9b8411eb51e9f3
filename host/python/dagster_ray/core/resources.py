"""The local resource under its module path in `dagster-ray` from PyPI."""

from dagster_ray.local import LocalRay

__all__ = ["LocalRay"]
