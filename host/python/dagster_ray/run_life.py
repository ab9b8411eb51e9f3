"""What Dagster's storage says about runs, in the form of the contract."""

from collections.abc import Collection

import dagster as dg

from dagster_ray import _library
from dagster_ray.contract import RunLife, RunState

_library.register()

_ENDED_WELL = {dg.DagsterRunStatus.SUCCESS}
_ENDED_BADLY = {dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
LIVE_STATUSES = [
    status for status in dg.DagsterRunStatus if status not in _ENDED_WELL | _ENDED_BADLY
]
"""The statuses of runs that have not ended."""


def run_lives(instance: dg.DagsterInstance, run_ids: Collection[str]) -> list[RunLife]:
    """Returns the states of runs, without those that Dagster does not know."""
    if not run_ids:
        return []
    records = instance.get_run_records(dg.RunsFilter(run_ids=sorted(run_ids)))
    return [_life(record) for record in records]


def live_runs(instance: dg.DagsterInstance) -> list[RunLife]:
    """Returns the runs that have not ended."""
    records = instance.get_run_records(dg.RunsFilter(statuses=LIVE_STATUSES))
    return [_life(record) for record in records]


def _life(record: dg.RunRecord) -> RunLife:
    status = record.dagster_run.status
    state: RunState = (
        "succeeded" if status in _ENDED_WELL else "failed" if status in _ENDED_BADLY else "live"
    )
    ended = None if record.end_time is None else int(record.end_time)
    return {"run_id": record.dagster_run.run_id, "state": state, "ended_at": ended}


__all__ = ["LIVE_STATUSES", "live_runs", "run_lives"]
