"""A real Ray and a real Dagster deployment, with a proxy between them, for faults to strike."""

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import worker_records
from dagster import DagsterInstance, DagsterRunStatus
from deployment import Deployment
from fault_proxy import FaultProxy
from processes import kill, wait_for
from ray_head import RayHead

CODE = Path(__file__).parent / "code"
# How long checks may fail before a run counts as lost, in seconds: longer than each fault.
UNREACHABLE_TIMEOUT = 25
# Processes of this Ray and this deployment inherit this variable with the path of the lab.
MARK = "DAGSTER_RAY_FAULT_LAB"
FINAL = {DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED}


def _settings(address: str) -> dict[str, Any]:
    launcher = {
        "address": address,
        "num_cpus": 0,
        "unreachable_timeout": UNREACHABLE_TIMEOUT,
        # Ray sets RAY_ADDRESS in a job, by which a run worker would not use the proxy.
        "env_vars": [f"RAY_API_SERVER_ADDRESS={address}"],
    }
    return {
        "telemetry": {"enabled": False},
        "run_launcher": {"module": "dagster_ray", "class": "RayRunLauncher", "config": launcher},
        "run_coordinator": {
            "module": "dagster.core.run_coordinator",
            "class": "QueuedRunCoordinator",
            "config": {"max_concurrent_runs": 20, "dequeue_interval_seconds": 1},
        },
        "run_monitoring": {
            "enabled": True,
            "poll_interval_seconds": 2,
            "max_resume_run_attempts": 1,
            "start_timeout_seconds": 45,
            "cancel_timeout_seconds": 20,
        },
    }


class Lab:
    """The services, and what tests observe and do to them."""

    def __init__(self) -> None:
        # Unix limits the length of socket paths, so Ray's directory needs a short path.
        self.root = Path(tempfile.mkdtemp(prefix="df-", dir="/tmp"))
        self.records_file = self.root / "records.jsonl"
        self.temporary = self.root / "tmp"
        self.temporary.mkdir()
        self._before = dict(os.environ)
        for variable in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "DAGSTER_HOME"):
            os.environ.pop(variable, None)
        os.environ[MARK] = str(self.root)
        os.environ["TMPDIR"] = str(self.temporary)
        os.environ[worker_records.VARIABLE] = str(self.records_file)
        self.head = RayHead(self.root, self.root / "ray-head.log", watched=False)
        os.environ.update(self.head.environment)
        self.proxy = FaultProxy(self.head.url)
        place = self.root / "deployment"
        place.mkdir()
        jobs = CODE / "fault_jobs.py"
        self.deployment = Deployment(place, _settings(self.proxy.url), jobs)
        self.instance: DagsterInstance = self.deployment.instance
        # Whether a fault left Ray in a state that the next test cannot use.
        self.is_broken = False
        self._standing: str | None = None
        self._folders = 0

    def close(self) -> list[str]:
        """Stops everything, and returns the command lines of Ray's live processes."""
        self.deployment.stop()
        self.proxy.close()
        left = self.head.stop()
        os.environ.clear()
        os.environ.update(self._before)
        shutil.rmtree(self.root, ignore_errors=True)
        return left

    def folder(self) -> Path:
        """Returns a new folder for one run."""
        self._folders += 1
        folder = self.root / "marks" / str(self._folders)
        folder.mkdir(parents=True)
        return folder

    def launch(
        self,
        job: str,
        marks: Path,
        tags: dict[str, str] | None = None,
        names: tuple[str, ...] = ("works",),
        **config: Any,
    ) -> str:
        op = {"config": {"marks": str(marks), **config}}
        return self.deployment.launch(job, dict.fromkeys(names, op), tags)

    def standing_run(self) -> str:
        """Returns a run under way, which is shared by the faults that must not end a run."""
        if self._standing is None:
            self._standing_marks = self.folder()
            self._standing = self.launch("stepped", self._standing_marks)
            self.wait_for_body(self._standing)
        return self._standing

    def end_standing_run(self) -> None:
        (self._standing_marks / "go").touch()
        self._standing = None

    def records(self, run_id: str | None = None) -> list[dict[str, Any]]:
        records = worker_records.read(self.records_file)
        return [record for record in records if run_id in (None, record["run"])]

    def workers(self, run_id: str, *, of_step: bool, alive: bool = True) -> list[dict[str, Any]]:
        """Returns the records of a run's workers or of its steps' workers."""
        return [
            record
            for record in self.records(run_id)
            if record["event"] == "worker"
            and (record["step"] is not None) == of_step
            and (not alive or worker_records.is_alive(record))
        ]

    def bodies(self, run_id: str, event: str = "begin") -> int:
        """Returns how many bodies of ops have begun, or ended with success (`end`)."""
        return sum(record["event"] == event for record in self.records(run_id))

    def wait_for_body(self, run_id: str, count: int = 1) -> None:
        def begun() -> bool:
            status = self.deployment.status(run_id)
            assert status not in FINAL, (status, self.deployment.messages(run_id))
            return self.bodies(run_id) >= count

        wait_for("the op", begun, 90)

    def kill_workers(
        self, run_id: str, *, of_step: bool, sign: signal.Signals = signal.SIGKILL
    ) -> None:
        workers = self.workers(run_id, of_step=of_step)
        assert workers, "no worker to kill"
        for worker in workers:
            kill(worker["pid"], sign)

    def wait_for_end(self, run_id: str, seconds: float = 200) -> DagsterRunStatus:
        """Waits until a run has ended, and returns its status.

        A resumed run of another Ray session waits twice for jobs that Ray does not have.
        """
        try:
            wait_for("the end", lambda: self.deployment.status(run_id) in FINAL, seconds)
        except AssertionError as error:
            shown = "\n".join(self.deployment.messages(run_id))
            status = self.deployment.status(run_id)
            raise AssertionError(f"run {run_id} is {status} after {seconds} s:\n{shown}") from error
        return self.deployment.status(run_id)


def own_environment(pid: int, root: Path) -> bool:
    """Returns whether a process inherited the mark of a lab."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return f"{MARK}={root}".encode() in variables
