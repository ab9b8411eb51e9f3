"""The run launcher under its module path in `dagster-ray` from PyPI."""

from dagster_ray.configs import RayLauncherConfig
from dagster_ray.launcher import RUN_REF_TAG, RayRunLauncher
from dagster_ray.launcher.submission_id import get_job_submission_id_from_run_id

__all__ = [
    "RUN_REF_TAG",
    "RayLauncherConfig",
    "RayRunLauncher",
    "get_job_submission_id_from_run_id",
]
