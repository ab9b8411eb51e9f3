"""The launcher, the executor and the local resource."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dagster_ray import _library

if TYPE_CHECKING:
    from dagster_ray._base.resources import RayResource
    from dagster_ray.configs import Lifecycle
    from dagster_ray.core.executor import ray_executor
    from dagster_ray.core.io_manager import RayIOManager
    from dagster_ray.core.pipes import PipesRayJobClient, PipesRayJobMessageReader
    from dagster_ray.core.resources import LocalRay
    from dagster_ray.core.run_launcher import RayRunLauncher

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
