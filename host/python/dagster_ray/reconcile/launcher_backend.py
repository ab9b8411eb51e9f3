"""The backend that an instance's run launcher uses."""

import dagster as dg

from dagster_ray import _library
from dagster_ray.backend import Backend
from dagster_ray.errors import UnsupportedError
from dagster_ray.launcher.run_launcher import RayRunLauncher

_library.register()


def launcher_backend(instance: dg.DagsterInstance) -> Backend:
    """Returns the backend of the instance's `RayRunLauncher`."""
    launcher = instance.run_launcher
    if isinstance(launcher, RayRunLauncher):
        return launcher.backend
    raise UnsupportedError(
        f"the run launcher of this Dagster instance is {type(launcher).__name__}, which has no Ray "
        "backend; configure RayRunLauncher as `run_launcher` in dagster.yaml"
    )


__all__ = ["launcher_backend"]
