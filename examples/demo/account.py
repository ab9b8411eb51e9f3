"""Lists Ray's jobs and compares them with Dagster's event log."""

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
    # Whether the steps are tasks of the worker's job, and not jobs of their own.
    as_tasks: bool

    def job_of(self, attempt: Attempt) -> JobDetails | None:
        """Returns the Ray job of one attempt of a step."""
        jobs = self.steps.get(attempt.step, [])
        return jobs[attempt.number] if attempt.number < len(jobs) else None

    def problems(self, history: History) -> list[str]:
        """Returns each difference from the expected outcome, as text."""
        problems = []
        if history.error is not None:
            problems.append(history.error)
        elif not history.succeeded:
            problems.append("the run did not succeed")
        if len(self.worker) != 1:
            problems.append(f"Ray lists {len(self.worker)} run workers of this run instead of 1")
        problems.extend(
            f"Ray lists the run worker as {job.status.value} instead of SUCCEEDED"
            for job in self.worker
            if job.status != "SUCCEEDED"
        )
        problems.extend(
            f"Ray lists {'a' if self.as_tasks else 'no'} job for step {attempt.step}, "
            f"attempt {attempt.number + 1}"
            for attempt in history.attempts
            if (self.job_of(attempt) is None) != self.as_tasks
        )
        if not any(attempt.number for attempt in history.attempts):
            problems.append("no step was retried, but the step `total` should have been")
        return problems


def end_of_worker(address: str, run_id: str) -> str | None:
    """Returns the run worker's final status and last output, or None while it is running."""
    client = quiet_client(address)
    for job in client.list_jobs():
        metadata = job.metadata or {}
        if metadata.get(RUN_ID) == run_id and STEP not in metadata and job.status.is_terminal():
            printed = client.get_job_logs(job.submission_id or "").splitlines()
            last = "\n".join(f"    {line}" for line in printed[-LOG_LINES:])
            return f"the run worker ended as {job.status.value}; its last output:\n{last}"
    return None


def quiet_client(address: str) -> JobSubmissionClient:
    """Returns Ray's own client, without its log messages."""
    # Ray reads its token settings only when it is imported.
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray").setLevel(logging.ERROR)
    return JobSubmissionClient(address)


def account_of(address: str, run_id: str, *, as_tasks: bool) -> Account:
    """Lists the run's jobs with Ray's own API, after every one has ended."""
    client = quiet_client(address)
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        jobs = [job for job in client.list_jobs() if (job.metadata or {}).get(RUN_ID) == run_id]
        # The run ends in Dagster's event log a moment before the process of its worker ends.
        if time.monotonic() > deadline or all(job.status.is_terminal() for job in jobs):
            break
        time.sleep(0.5)
    account = Account([], {}, as_tasks)
    for job in sorted(jobs, key=lambda job: job.start_time or 0):
        step = (job.metadata or {}).get(STEP)
        if step is None:
            account.worker.append(job)
        else:
            account.steps.setdefault(step, []).append(job)
    return account


def show_table(console: Console, history: History, account: Account) -> None:
    """Prints a table with one row for the run and one for each attempt of a step."""
    table = Table(
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title="\nDagster's steps and Ray's jobs",
        caption=f"… in a Ray job's id stands for the run's id: {history.run_id}",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("Dagster", overflow="fold")
    table.add_column("Ray job", overflow="fold")
    table.add_column("Ray status")
    table.add_column("job took", justify="right")
    table.add_column("step took", justify="right")
    for job in account.worker:
        table.add_row("[bold]run worker[/]", *columns(job, history), "")
    for attempt in history.attempts:
        name = attempt.step if attempt.number == 0 else f"{attempt.step} (retry)"
        took = f"{attempt.ended - attempt.began:.2f} s" if attempt.ended else "?"
        job = account.job_of(attempt)
        missing = "a task of the worker's job" if account.as_tasks else "[red]none[/]"
        cells = (missing, "", "") if job is None else columns(job, history)
        table.add_row(escape(name), *cells, took)
    console.print(table)


def columns(job: JobDetails, history: History) -> tuple[str, str, str]:
    """Returns a job's id, its status and its duration."""
    name = escape((job.submission_id or "").replace(history.run_id, "…"))
    if job.start_time is None or job.end_time is None:
        return name, job.status.value, ""
    return name, job.status.value, f"{(job.end_time - job.start_time) / 1000:.1f} s"
