"""Which attempts of a run's steps have ended, by Dagster's event log."""

import dagster as dg
from dagster import DagsterEventType

from dagster_ray import _library
from dagster_ray.contract import StepEnd

_library.register()

_BEGINS = {DagsterEventType.STEP_START, DagsterEventType.STEP_RESTARTED}
_RETRY = DagsterEventType.STEP_UP_FOR_RETRY
_FINAL = {DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE}


def step_ends(instance: dg.DagsterInstance, run_id: str) -> list[StepEnd]:
    """Returns the latest ended attempt of each step of a run.

    An attempt counts as ended only if no later event shows that it runs: a worker that was thought
    to be dead may report an end beside the executor.
    """
    retries: dict[str, list[float]] = {}
    final: dict[str, float] = {}
    for entry in instance.all_logs(run_id, of_type={*_BEGINS, _RETRY, *_FINAL}):
        event = entry.dagster_event
        if event is None or event.step_key is None:
            continue
        times = retries.setdefault(event.step_key, [])
        if event.event_type in _FINAL:
            final[event.step_key] = entry.timestamp
            continue
        final.pop(event.step_key, None)
        if event.event_type == _RETRY:
            times.append(entry.timestamp)
    ends: list[StepEnd] = []
    for key, times in retries.items():
        ended = [*times, final[key]] if key in final else times
        if ended:
            attempt, at = len(ended) - 1, int(ended[-1])
            ends.append({"run_id": run_id, "step_key": key, "attempt": attempt, "ended_at": at})
    return ends


__all__ = ["step_ends"]
