"""Asks Ray which jobs it ran, and compares that with what Dagster says."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from watch import Attempt, History

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

RUN_ID = "dagster/run-id"
STEP = "dagster/op"
SETTLE_SECONDS = 30
LOG_LINES = 30


@dataclass
class Account:
    """Ray's jobs of one run, oldest first."""

    worker: list[JobDetails]
    steps: dict[str, list[JobDetails]]

    def job_of(self, attempt: Attempt) -> JobDetails | None:
        """The Ray job of one try of a step."""
        jobs = self.steps.get(attempt.step, [])
        return jobs[attempt.number] if attempt.number < len(jobs) else None

    def problems(self, history: History) -> list[str]:
        """What was not as it should have been."""
        problems = []
        if history.error is not None:
            problems.append(history.error)
        elif not history.succeeded:
            problems.append("the run did not succeed")
        if len(self.worker) != 1:
            problems.append(f"Ray knows {len(self.worker)} run workers of this run, not 1")
        problems.extend(
            f"Ray's run worker is {job.status.value}"
            for job in self.worker
            if job.status != "SUCCEEDED"
        )
        problems.extend(
            f"Ray knows no job for the step {attempt.step}, attempt {attempt.number + 1}"
            for attempt in history.attempts
            if self.job_of(attempt) is None
        )
        if not any(attempt.number for attempt in history.attempts):
            problems.append("no step was tried again, but one should have been")
        return problems


def end_of_worker(address: str, run_id: str) -> str | None:
    """How the run's worker ended and what it printed last, or None as long as it is at work."""
    client = quiet_client(address)
    for job in client.list_jobs():
        metadata = job.metadata or {}
        if metadata.get(RUN_ID) == run_id and STEP not in metadata and job.status.is_terminal():
            printed = client.get_job_logs(job.submission_id or "").splitlines()
            last = "\n".join(f"    {line}" for line in printed[-LOG_LINES:])
            return f"the run worker ended as {job.status.value}; its last words:\n{last}"
    return None


def quiet_client(address: str) -> JobSubmissionClient:
    """Ray's own client, without what it has to say about itself."""
    # Ray looks for its token settings when it is imported, and never again.
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray").setLevel(logging.ERROR)
    return JobSubmissionClient(address)


def account_of(address: str, run_id: str) -> Account:
    """What Ray's own API lists, once every job of the run has ended."""
    client = quiet_client(address)
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        jobs = [job for job in client.list_jobs() if (job.metadata or {}).get(RUN_ID) == run_id]
        # Dagster knows that a run ended a moment before its worker's process has ended.
        if time.monotonic() > deadline or all(job.status.is_terminal() for job in jobs):
            break
        time.sleep(0.5)
    account = Account([], {})
    for job in sorted(jobs, key=lambda job: job.start_time or 0):
        step = (job.metadata or {}).get(STEP)
        if step is None:
            account.worker.append(job)
        else:
            account.steps.setdefault(step, []).append(job)
    return account


def show_table(console: Console, history: History, account: Account) -> None:
    """One line for the run and for each try of a step."""
    table = Table(
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title="\nWhat Dagster ran, and what Ray lists for it",
        caption=f"… in a Ray job's id is the run's: {history.run_id}",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("Dagster", overflow="fold")
    table.add_column("Ray job", overflow="fold")
    table.add_column("Ray says")
    table.add_column("job took", justify="right")
    table.add_column("step took", justify="right")
    for job in account.worker:
        table.add_row("[bold]run worker[/]", *columns(job, history), "")
    for attempt in history.attempts:
        name = attempt.step if attempt.number == 0 else f"{attempt.step} (again)"
        took = f"{attempt.ended - attempt.began:.2f} s" if attempt.ended else "?"
        job = account.job_of(attempt)
        cells = ("[red]none[/]", "", "") if job is None else columns(job, history)
        table.add_row(escape(name), *cells, took)
    console.print(table)


def columns(job: JobDetails, history: History) -> tuple[str, str, str]:
    """A job's id, Ray's word for how it ended, and how long it took."""
    name = escape((job.submission_id or "").replace(history.run_id, "…"))
    if job.start_time is None or job.end_time is None:
        return name, job.status.value, ""
    return name, job.status.value, f"{(job.end_time - job.start_time) / 1000:.1f} s"
