"""Asks Ray which jobs it ran, and compares that with what Dagster says."""

import logging
import time
from dataclasses import dataclass

from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient
from rich.console import Console
from rich.table import Table
from watch import Attempt, History

RUN_ID = "dagster/run-id"
STEP = "dagster/op"
SETTLE_SECONDS = 30


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
            if job.status != JobStatus.SUCCEEDED
        )
        problems.extend(
            f"Ray knows no job for the step {attempt.step}, attempt {attempt.number + 1}"
            for attempt in history.attempts
            if self.job_of(attempt) is None
        )
        if not any(attempt.number for attempt in history.attempts):
            problems.append("no step was tried again, but one should have been")
        return problems


def account_of(address: str, run_id: str) -> Account:
    """What Ray's own API lists, once every job of the run has ended."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    client = JobSubmissionClient(address)
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
    table = Table(title="\nWhat Dagster ran, and what Ray says of it", title_justify="left")
    table.add_column("Dagster")
    table.add_column("Ray job", overflow="fold")
    table.add_column("Ray says")
    table.add_column("job", justify="right")
    table.add_column("step itself", justify="right")
    for job in account.worker:
        table.add_row("[bold]run worker[/]", job.submission_id, *outcome(job), "")
    for attempt in history.attempts:
        name = attempt.step if attempt.number == 0 else f"{attempt.step} (again)"
        own = f"{attempt.ended - attempt.began:.2f} s" if attempt.ended else "?"
        job = account.job_of(attempt)
        if job is None:
            table.add_row(name, "[red]none[/]", "", "", own)
        else:
            table.add_row(name.replace("[", r"\["), job.submission_id, *outcome(job), own)
    console.print(table)


def outcome(job: JobDetails) -> tuple[str, str]:
    """Ray's word for how a job ended, and how long it took."""
    if job.start_time is None or job.end_time is None:
        return job.status.value, ""
    return job.status.value, f"{(job.end_time - job.start_time) / 1000:.1f} s"
