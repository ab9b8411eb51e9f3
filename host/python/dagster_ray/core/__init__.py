"""The package's names under their module paths in `dagster-ray` from PyPI."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dagster_ray import _library

if TYPE_CHECKING:
    from dagster_ray.configs import Lifecycle
    from dagster_ray.executor import ray_executor
    from dagster_ray.io.io_manager import RayIOManager
    from dagster_ray.launcher.run_launcher import RayRunLauncher
    from dagster_ray.local import LocalRay
    from dagster_ray.pipes.client import PipesRayJobClient, PipesRayJobMessageReader
    from dagster_ray.resources import RayResource

__all__ = [
    "Lifecycle",
    "LocalRay",
    "PipesRayJobClient",
    "PipesRayJobMessageReader",
    "RayIOManager",
    "RayResource",
    "RayRunLauncher",
    "ray_executor",
]

_library.register()


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("dagster_ray"), name)
