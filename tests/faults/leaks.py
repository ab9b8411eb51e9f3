"""Finds what a run left: Ray jobs, processes, listening ports and temporary files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import Lab, own_environment
from processes import command_lines, wait_for

# The time after the end of a run within which everything of it is gone, in seconds.
SECONDS = 30
_WORKERS = (
    "api execute_run",
    "api resume_run",
    "api execute_step",
    "follows_script.py",
    "script.py",
)
_LISTENING = "0A"


@dataclass(frozen=True)
class Snapshot:
    """What existed before a test."""

    jobs: frozenset[str]
    processes: frozenset[int]
    files: frozenset[str]


def snapshot(lab: Lab) -> Snapshot:
    return Snapshot(
        frozenset(_unfinished_jobs(lab)),
        frozenset(_workers(lab)),
        frozenset(_temporary_files(lab)),
    )


def check(lab: Lab, before: Snapshot) -> None:
    """Waits until nothing is left, and fails if something is after the time."""
    _wait(lambda: _left(lab, before))


def check_processes(lab: Lab, before: Snapshot) -> None:
    """Does the same for processes and their ports only, after a fault that ended Ray."""
    _wait(lambda: _left_processes(lab, before))


def _wait(look: Callable[[], list[str]]) -> None:
    found: list[str] = []

    def is_clean() -> bool:
        found[:] = look()
        return not found

    try:
        wait_for("nothing left", is_clean, SECONDS, 0.5)
    except AssertionError as error:
        raise AssertionError(f"left after {SECONDS} s:\n" + "\n".join(found)) from error


def _left(lab: Lab, before: Snapshot) -> list[str]:
    return [
        *(f"Ray job {name}" for name in _unfinished_jobs(lab) if name not in before.jobs),
        *_left_processes(lab, before),
        *(f"file {name}" for name in _temporary_files(lab) - before.files),
    ]


def _left_processes(lab: Lab, before: Snapshot) -> list[str]:
    processes = {pid: line for pid, line in _workers(lab).items() if pid not in before.processes}
    return [
        *(f"process {pid}: {line[:200]}" for pid, line in processes.items()),
        *(f"port {port} of process {pid}" for pid in processes for port in _ports(pid)),
    ]


def _unfinished_jobs(lab: Lab) -> set[str]:
    def is_unfinished(job: dict[str, Any]) -> bool:
        return job["status"] in ("PENDING", "RUNNING")

    return {name for name, job in lab.head.jobs().items() if is_unfinished(job)}


def _workers(lab: Lab) -> dict[int, str]:
    is_worker: Callable[[str], bool] = lambda line: any(word in line for word in _WORKERS)  # noqa: E731
    return {
        pid: line
        for pid, line in command_lines().items()
        if is_worker(line) and own_environment(pid, lab.root)
    }


def _temporary_files(lab: Lab) -> set[str]:
    """Returns the files of TMPDIR that neither Ray nor Dagster keeps on purpose."""
    return {path.name for path in lab.temporary.iterdir() if _is_ours(path)}


def _is_ours(path: Path) -> bool:
    return "dagster-ray" in path.name or "dagster_ray" in path.name


def _ports(pid: int) -> set[int]:
    """Returns the TCP ports on which a process listens."""
    inodes = set()
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = str(link.readlink())
            if target.startswith("socket:["):
                inodes.add(target[len("socket:[") : -1])
        rows = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    except OSError:
        return set()
    fields = [row.split() for row in rows]
    return {
        int(row[1].rpartition(":")[2], 16)
        for row in fields
        if row[3] == _LISTENING and row[9] in inodes
    }
