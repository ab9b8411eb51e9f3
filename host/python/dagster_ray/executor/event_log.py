"""What the executor reads from Dagster's event log while steps run."""

from collections import Counter

from dagster import DagsterEventType, DagsterInstance

# Dagster's default of 1 s would add up to a second to each step.
POLL_SECONDS = 0.25

# The events that end an attempt of a step.
STEP_ENDS = frozenset(
    {
        DagsterEventType.STEP_SUCCESS,
        DagsterEventType.STEP_FAILURE,
        DagsterEventType.STEP_UP_FOR_RETRY,
    }
)


def reported_attempts(instance: DagsterInstance, run_id: str) -> Counter[str]:
    """Returns the number of attempts of each step whose end is in Dagster's event log."""
    entries = instance.all_logs(run_id, of_type=set(STEP_ENDS))
    return Counter(entry.step_key for entry in entries if entry.step_key)


__all__ = ["POLL_SECONDS", "STEP_ENDS", "reported_attempts"]
