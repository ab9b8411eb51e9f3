"""Functions under their module path in `dagster-ray` from PyPI."""

from dagster_ray.contexts import get_dagster_run
from dagster_ray.env_vars import resolve_env_vars_list
from dagster_ray.ray_connection import get_current_job_id

__all__ = ["get_current_job_id", "get_dagster_run", "resolve_env_vars_list"]
