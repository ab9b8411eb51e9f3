"""Stops and removes what has outlived its run. Public names are imported on first use."""

from typing import TYPE_CHECKING, Any

from dagster_ray import _library, lazy_names

if TYPE_CHECKING:
    from dagster_ray.reconcile.definitions import (
        ReconcileRayConfig,
        reconcile_ray,
        reconcile_ray_op,
        reconcile_ray_sensor,
    )
    from dagster_ray.reconcile.reconciliation import reconcile, reconcile_run

__all__ = [
    "ReconcileRayConfig",
    "reconcile",
    "reconcile_ray",
    "reconcile_ray_op",
    "reconcile_ray_sensor",
    "reconcile_run",
]

_library.register()


def __getattr__(name: str) -> Any:
    return lazy_names.find(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
