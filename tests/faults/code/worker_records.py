"""Records the worker processes of runs and steps in a file, to prove that none runs twice.

Each process appends one JSON object at its start. It names the live workers of the same run or step
that it found, so that a test need not watch the processes.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

# The file of the records. Workers inherit the variable from Ray.
VARIABLE = "DAGSTER_RAY_FAULT_RECORDS"


def started_at(pid: int) -> int | None:
    """Returns when a process started, in clock ticks since boot, or None if it does not run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def is_alive(record: dict[str, Any]) -> bool:
    return started_at(record["pid"]) == record["started"]


def read(file: Path) -> list[dict[str, Any]]:
    """Returns all records. A killed process leaves no incomplete one: each is a single write."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]


def record_worker() -> None:
    """Records this process, if it is the worker of a run or of a step."""
    file = os.environ.get(VARIABLE)
    job = os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR")
    if file is None or job is None:
        return
    metadata = json.loads(job)["metadata"]
    same = {
        "event": "worker",
        "run": metadata.get("dagster/run-id"),
        # A run worker has no step.
        "step": metadata.get("dagster/op"),
    }
    with _locked(Path(file)) as records:
        beside = [
            found["job"]
            for found in read(Path(file))
            if all(found.get(key) == value for key, value in same.items())
            and found["pid"] != os.getpid()
            and is_alive(found)
        ]
        _write(records, {**same, "job": metadata["job_submission_id"], "beside": beside})


@contextmanager
def op_body(run: str, step: str, attempt: int) -> Iterator[None]:
    """Records the beginning of an op's body, and its end unless it fails or is interrupted."""
    known = {"run": run, "step": step, "attempt": attempt}
    file = Path(os.environ[VARIABLE])
    with _locked(file) as records:
        _write(records, {"event": "begin", **known})
    yield
    with _locked(file) as records:
        _write(records, {"event": "end", **known})


@contextmanager
def _locked(file: Path) -> Iterator[TextIO]:
    with file.open("a") as records:
        fcntl.flock(records, fcntl.LOCK_EX)
        yield records


def _write(records: TextIO, record: dict[str, Any]) -> None:
    process = {"pid": os.getpid(), "started": started_at(os.getpid())}
    records.write(json.dumps({**record, **process}) + "\n")
    records.flush()
