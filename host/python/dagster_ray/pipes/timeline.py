"""When a script was launched, started and ended, as metadata that Dagster shows and plots."""

import time
from collections import deque
from datetime import datetime, timezone
from typing import Any

from dagster import MetadataValue, TableRecord

from dagster_ray.contract import Output

# What a table in Dagster's event log can show at once.
_MOST_EVENTS = 50


class Timeline:
    """The times of one script, by the clock of this process, and what the backend reported of it.

    Ray does not record when a job starts to run. A script has started when its first output
    arrives: `open_dagster_pipes` writes a message at once.
    """

    def __init__(self) -> None:
        self._launched = time.monotonic()
        self._started: float | None = None
        self._ended: float | None = None
        self._events: deque[TableRecord] = deque(maxlen=_MOST_EVENTS)

    def add(self, event: str) -> None:
        """Adds something that the backend reported, such as a condition of the cluster."""
        now = datetime.now(timezone.utc).isoformat(sep=" ", timespec="seconds")
        self._events.append(TableRecord({"time": now, "event": event}))

    def watched(self, output: Output) -> Output:
        """Returns a callback for output that notices the first one and passes it on."""

        def receive(channel: str, text: bytes) -> None:
            if self._started is None:
                self._started = time.monotonic()
            output(channel, text)

        return receive

    def end(self) -> None:
        """Notices the end of the script."""
        self._ended = time.monotonic()

    def metadata(self) -> dict[str, Any]:
        """Returns the seconds as numbers that Dagster plots, and the events as a table."""
        found: dict[str, Any] = {}
        if self._started is not None:
            found["Ray Queue Seconds"] = MetadataValue.float(self._started - self._launched)
            if self._ended is not None:
                found["Ray Run Seconds"] = MetadataValue.float(self._ended - self._started)
        if self._events:
            found["Ray Events"] = MetadataValue.table(list(self._events))
        return found
