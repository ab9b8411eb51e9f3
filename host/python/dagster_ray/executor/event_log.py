"""What the executor reads from Dagster's event log while steps run."""

from collections import Counter

from dagster import DagsterEventType, DagsterInstance

# Dagster's default of 1 s would add up to a second to each step.
POLL_SECONDS = 0.25
# The number of events in one query.
_PAGE = 1000

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


class ReportedEnds:
    """The attempts of a run's steps whose end is in Dagster's event log.

    Reads each event once, unless it does not find the end of a step: an event with a lower id may
    have been stored later, and the log may be read from a replica that lags behind.
    """

    def __init__(self) -> None:
        # The ids of the events, by step.
        self._ends: dict[str, set[int]] = {}
        self._cursor: str | None = None

    def has(self, instance: DagsterInstance, run_id: str, key: str, attempt: int) -> bool:
        """Returns whether the end of an attempt is in the event log."""
        if self._count(key) <= attempt:
            self._cursor = self._read(instance, run_id, self._cursor)
        if self._count(key) <= attempt:
            self._cursor = self._read(instance, run_id, None)
        return self._count(key) > attempt

    def _count(self, key: str) -> int:
        return len(self._ends.get(key, ()))

    def _read(self, instance: DagsterInstance, run_id: str, cursor: str | None) -> str | None:
        """Reads the events after a cursor, and returns the cursor of the last one."""
        has_more = True
        while has_more:
            page = instance.get_records_for_run(
                run_id, cursor=cursor, of_type=set(STEP_ENDS), limit=_PAGE
            )
            for record in page.records:
                if record.event_log_entry.step_key:
                    ends = self._ends.setdefault(record.event_log_entry.step_key, set())
                    ends.add(record.storage_id)
            cursor, has_more = page.cursor, page.has_more
        return cursor


__all__ = ["POLL_SECONDS", "STEP_ENDS", "ReportedEnds", "reported_attempts"]
