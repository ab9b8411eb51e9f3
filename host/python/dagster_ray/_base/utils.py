"""Functions under their module path in `dagster-ray` from PyPI."""

from dagster_ray.contexts import get_dagster_tags

__all__ = ["get_dagster_tags"]
