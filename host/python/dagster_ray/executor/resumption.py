"""What a resumed run takes over from the event log of its killed worker."""

from collections.abc import Iterable

import dagster as dg

# The metadata of the event that a step's task starts.
TASK = "Ray Task"
_INTERRUPTED = "DagsterExecutionInterruptedError"


def events_to_continue(events: Iterable[dg.DagsterEvent]) -> list[dg.DagsterEvent]:
    """Returns the events without the failures of tasks that ended with the killed worker.

    Ray sends SIGTERM to the tasks of a worker that died, and they report an interrupt. Their steps
    are executed again.
    """
    tasks: set[str | None] = set()
    kept: list[dg.DagsterEvent] = []
    for event in events:
        if event.event_type == dg.DagsterEventType.STEP_WORKER_STARTING:
            is_task = TASK in event.engine_event_data.metadata
            (tasks.add if is_task else tasks.discard)(event.step_key)
        if not (event.step_key in tasks and _is_interrupted(event)):
            kept.append(event)
    return kept


def _is_interrupted(event: dg.DagsterEvent) -> bool:
    if not event.is_step_failure:
        return False
    error = event.step_failure_data.error
    return error is not None and error.cls_name == _INTERRUPTED


__all__ = ["TASK", "events_to_continue"]
