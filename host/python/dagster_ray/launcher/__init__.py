"""The run launcher: submits each Dagster run as a Ray job."""

from dagster_ray.launcher.run_launcher import RayRunLauncher
from dagster_ray.launcher.run_reference import RUN_REF_TAG

__all__ = ["RUN_REF_TAG", "RayRunLauncher"]
