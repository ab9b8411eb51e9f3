"""Prints a run's events as they occur."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import dagster as dg
from rich.console import Console
from rich.markup import escape

DEADLINE_SECONDS = 600
POLL_SECONDS = 0.3
WORKER_SECONDS = 5

WORDS = {
    dg.DagsterEventType.RUN_START: "[bold]the run worker is running[/]",
    dg.DagsterEventType.STEP_START: "starts",
    dg.DagsterEventType.STEP_SUCCESS: "[green]done[/]",
    dg.DagsterEventType.STEP_UP_FOR_RETRY: "[yellow]failed, will be retried[/]",
    dg.DagsterEventType.STEP_RESTARTED: "restarts",
    dg.DagsterEventType.STEP_FAILURE: "[red]failed[/]",
    dg.DagsterEventType.STEP_SKIPPED: "skipped",
    dg.DagsterEventType.RUN_SUCCESS: "[bold green]the run succeeded[/]",
    dg.DagsterEventType.RUN_FAILURE: "[bold red]the run failed[/]",
    dg.DagsterEventType.RUN_CANCELED: "[bold red]the run was canceled[/]",
}
BEGINNINGS = {dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_RESTARTED}
ENDINGS = {
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_UP_FOR_RETRY,
    dg.DagsterEventType.STEP_FAILURE,
}


@dataclass
class Attempt:
    """One attempt of a step. Times are seconds since the Unix epoch."""

    step: str
    number: int
    began: float
    ended: float | None = None


@dataclass
class History:
    """A run's outcome and step attempts, read from Dagster's event log."""

    run_id: str
    succeeded: bool = False
    # When the run worker began and ended the run, in seconds since the Unix epoch.
    began: float | None = None
    ended: float | None = None
    attempts: list[Attempt] = field(default_factory=list)
    error: str | None = None

    @property
    def seconds(self) -> float:
        """The time from the start to the end of the run, without that of its worker's process."""
        return self.ended - self.began if self.began and self.ended else float("nan")

    def begin(self, step: str, moment: float) -> None:
        """Records the start of an attempt of a step."""
        number = sum(attempt.step == step for attempt in self.attempts)
        self.attempts.append(Attempt(step, number, moment))

    def end(self, step: str, moment: float) -> None:
        """Records the end of the last attempt of a step."""
        for attempt in reversed(self.attempts):
            if attempt.step == step:
                attempt.ended = moment
                return


def follow(
    instance: dg.DagsterInstance,
    run_id: str,
    console: Console,
    end_of_worker: Callable[[], str | None],
) -> History:
    """Prints the start and the end of each step, and returns when the run has ended.

    A worker that dies before it reports leaves the run unfinished, so its status is checked too.
    """
    history = History(run_id)
    began = time.time()
    checked = began
    cursor = None
    console.print(f"run {run_id}\n")
    with console.status("the run worker is starting as a Ray job"):
        while time.time() < began + DEADLINE_SECONDS:
            run = instance.get_run_by_id(run_id)
            records = instance.get_records_for_run(run_id, cursor=cursor)
            cursor = records.cursor
            for record in records.records:
                show(record.event_log_entry, history, began, console)
            # The status was read before the events, so no event of an ended run is missed.
            if run is not None and run.is_finished and not records.records:
                history.succeeded = run.is_success
                return history
            if time.time() > checked + WORKER_SECONDS:
                checked = time.time()
                how = end_of_worker()
                run = instance.get_run_by_id(run_id)
                if how is not None and run is not None and not run.is_finished:
                    history.error = how
                    return history
            time.sleep(POLL_SECONDS)
    history.error = f"the run did not end within {DEADLINE_SECONDS} s"
    return history


def show(entry: dg.EventLogEntry, history: History, began: float, console: Console) -> None:
    """Records an event in the history, and prints it if it is of interest."""
    event, step = entry.dagster_event, entry.step_key or ""
    text = None
    if event is None:
        # A message from an op. The IO manager logs at a lower level.
        if int(entry.level) >= logging.INFO:
            text = f"[dim]{escape(entry.user_message)}[/]"
    else:
        kind = event.event_type
        text = WORDS.get(kind)
        if kind in BEGINNINGS:
            history.begin(step, entry.timestamp)
        elif kind in ENDINGS:
            history.end(step, entry.timestamp)
        elif kind == dg.DagsterEventType.RUN_START:
            history.began = entry.timestamp
        elif kind == dg.DagsterEventType.RUN_SUCCESS:
            history.ended = entry.timestamp
        elif kind == dg.DagsterEventType.RUN_FAILURE:
            history.error = entry.user_message or event.message
    if text is not None:
        seconds = max(0.0, entry.timestamp - began)
        console.print(f"  {seconds:5.1f} s  {escape(f'{step:<14}')} {text}")
