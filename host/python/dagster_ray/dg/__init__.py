"""Components for projects of ``dg``: scripts on Ray, and resources with a Ray cluster, in YAML.

``dg list components`` finds this module by the entry point ``dagster_dg_cli.registry_modules``.
"""

from dagster_ray.dg.kuberay import KubeRayClusterComponent, KubeRayPipesComponent
from dagster_ray.dg.local import LocalRayComponent
from dagster_ray.dg.ray import RayConnection, RayPipesComponent

__all__ = [
    "KubeRayClusterComponent",
    "KubeRayPipesComponent",
    "LocalRayComponent",
    "RayConnection",
    "RayPipesComponent",
]
