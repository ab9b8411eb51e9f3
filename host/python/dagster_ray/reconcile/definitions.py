"""A Dagster job that removes what has outlived its run, and a sensor that requests it."""

from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from dagster_ray import _library
from dagster_ray.dagster_typing import job, sensor
from dagster_ray.reconcile.launcher_backend import launcher_backend
from dagster_ray.reconcile.reconciliation import (
    ENDED_GRACE_SECONDS,
    UNKNOWN_GRACE_SECONDS,
    describe,
    reconcile,
)
from dagster_ray.run_life import LIVE_STATUSES

_library.register()

_EVERY_SECONDS = 300


class ReconcileRayConfig(dg.Config):
    """How long objects are kept, and whether to remove them."""

    ended_grace_seconds: int = Field(
        default=ENDED_GRACE_SECONDS,
        description="Seconds after the end of a run or step for which its objects are kept.",
    )
    unknown_grace_seconds: int = Field(
        default=UNKNOWN_GRACE_SECONDS,
        description="The age in seconds up to which objects of runs unknown to Dagster are kept.",
    )
    dry_run: bool = Field(
        default=False, description="Log what would be removed and why, and remove nothing."
    )


@dg.op(name="reconcile_ray_op")
def reconcile_ray_op(context: dg.OpExecutionContext, config: ReconcileRayConfig) -> None:
    """Removes what has outlived its run, and fails if something could not be removed."""

    def write(level: str, message: str) -> None:
        getattr(context.log, level)(message)

    found = reconcile(
        context.instance,
        launcher_backend(context.instance),
        dry_run=config.dry_run,
        ended_grace_seconds=config.ended_grace_seconds,
        unknown_grace_seconds=config.unknown_grace_seconds,
        write=write,
    )
    failed: list[str] = []
    for leftover in found:
        if leftover["outcome"] == "failed":
            failed.append(leftover["name"])
            context.log.error(describe(leftover))
        else:
            context.log.info(describe(leftover))
    if failed:
        raise dg.Failure(f"these objects could not be removed: {', '.join(failed)}")


@job(
    name="reconcile_ray",
    description="Stops and removes what this deployment's ended runs and steps have left on Ray.",
)
def reconcile_ray() -> None:
    reconcile_ray_op()


@sensor(
    job=reconcile_ray,
    minimum_interval_seconds=_EVERY_SECONDS,
    default_status=dg.DefaultSensorStatus.STOPPED,
)
def reconcile_ray_sensor(
    context: dg.SensorEvaluationContext,
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Requests a run of `reconcile_ray` if something has outlived its run."""
    instance = context.instance
    in_progress = dg.RunsFilter(job_name=reconcile_ray.name, statuses=LIVE_STATUSES)
    if instance.get_run_ids(in_progress, limit=1):
        yield dg.SkipReason("A run of reconcile_ray is in progress.")
        return
    found = reconcile(instance, launcher_backend(instance), dry_run=True)
    if any(leftover["outcome"] == "would-remove" for leftover in found):
        yield dg.RunRequest()
    else:
        yield dg.SkipReason("Nothing has outlived its run.")


__all__ = ["ReconcileRayConfig", "reconcile_ray", "reconcile_ray_op", "reconcile_ray_sensor"]
