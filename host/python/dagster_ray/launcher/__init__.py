"""The run launcher: submits each Dagster run as a Ray job."""

from dagster_ray.launcher.run_launcher import RUN_REF_TAG, RayRunLauncher

__all__ = ["RUN_REF_TAG", "RayRunLauncher"]
