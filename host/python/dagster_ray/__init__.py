"""Runs Dagster runs and steps on Ray, through WebAssembly components.

Public names are imported on first use. Importing the package itself loads neither Dagster nor Ray
and starts no thread.
"""

import sys
from typing import TYPE_CHECKING, Any

from dagster_ray import _installation
from dagster_ray._version import __version__

_installation.check()

if TYPE_CHECKING:
    from dagster_ray.configs import Lifecycle
    from dagster_ray.datasets.io_manager import RayDataIOManager
    from dagster_ray.executor import ray_executor
    from dagster_ray.functions.decorator import ray_function
    from dagster_ray.io.io_manager import RayIOManager
    from dagster_ray.launcher.run_launcher import RayRunLauncher
    from dagster_ray.local import LocalRay
    from dagster_ray.ops.asset import ray_job_asset
    from dagster_ray.ops.job import execute_ray_job, ray_job_op
    from dagster_ray.pipes.client import (
        PipesRayJobClient,
        PipesRayJobMessageReader,
    )
    from dagster_ray.resources import BaseRayResource, RayResource

# Do not import Dagster in a process that has not, such as the command `dagster-ray`. The modules
# that import Dagster register the package themselves.
if "dagster" in sys.modules:
    from dagster_ray import _library

    _library.register()

__all__ = [
    "BaseRayResource",
    "Lifecycle",
    "LocalRay",
    "PipesRayJobClient",
    "PipesRayJobMessageReader",
    "RayDataIOManager",
    "RayIOManager",
    "RayResource",
    "RayRunLauncher",
    "__version__",
    "execute_ray_job",
    "ray_executor",
    "ray_function",
    "ray_job_asset",
    "ray_job_op",
]


def __getattr__(name: str) -> Any:
    # `from dagster_ray import lazy_names` would call this function.
    from dagster_ray.lazy_names import find

    return find(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
