"""A simulated Ray, as a test holds it."""

import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import execute_job

from dagster_ray import simulation
from dagster_ray.backend import Backend, Connection
from dagster_ray.errors import UnavailableError
from dagster_ray.simulation.supervisor import OVER, key_file
from dagster_ray.testing.code import Code, job_of, with_partition
from dagster_ray.testing.results import Result
from dagster_ray.testing.runs import LaunchedRun

_FAULTS = "faults"
_CLOCK = "clock"
_JOB = "job/"
# How long the supervisors may take to end what they watch over.
_END_SECONDS = 10.0
# How long the jobs of a run may go on after its end, before nobody waits for them any more.
_SETTLE_SECONDS = 5.0
_LOOK_SECONDS = 0.02
_POLL_SECONDS = "0.05"


@dataclass(frozen=True)
class Clock:
    """The simulation's clock: the real one, and every wait that was skipped."""

    _directory: str
    _began: float

    @property
    def elapsed(self) -> float:
        """Seconds since the simulation began, with those that nobody had to wait for."""
        return time.time() - self._began + self.skipped

    @property
    def skipped(self) -> float:
        """Seconds that nobody had to wait for."""
        file = key_file(self._directory, _CLOCK)
        return int(file.read_text()) / 1_000 if file.exists() else 0.0


@dataclass(frozen=True)
class SimulatedJob:
    """A Ray job of the simulation."""

    submission_id: str
    # `pending`, `running`, `succeeded`, `failed`, `stopped`.
    state: str
    # Ray's own words.
    message: str | None
    error_type: str | None
    exit_code: int | None
    entrypoint: str
    metadata: Mapping[str, str]
    runtime_env: Mapping[str, Any]
    # What it has written, standard error with standard output.
    output: str

    @property
    def step(self) -> str | None:
        """The key of the step, where it is a step's."""
        return self.metadata.get("dagster/op")


class SimulatedRay:
    """Ray for one test: what it scripts, executes and sees. See the package for an example."""

    def __init__(self, directory: Path) -> None:
        self._directory = str(directory.absolute())
        self._state = Path(self._directory, "state")
        self._state.mkdir(parents=True)
        simulation.begin_test(self._directory)
        self._faults: list[dict[str, Any]] = []
        self._instance: dg.DagsterInstance | None = None
        self.clock = Clock(self._directory, time.time())

    @cached_property
    def _backend(self) -> Backend:
        settings = {simulation.SETTING: self._directory}
        return Backend(Connection(backend="simulated", backend_config=settings))

    @property
    def environment(self) -> dict[str, str | None]:
        """The environment that this process and its children need; `None`: to be removed."""
        return {
            simulation.VARIABLE: self._directory,
            "DAGSTER_STEP_DELEGATING_EXECUTOR_SLEEP_SECONDS": _POLL_SECONDS,
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "RAY_ADDRESS": None,
            "RAY_API_SERVER_ADDRESS": None,
        }

    @property
    def instance(self) -> dg.DagsterInstance:
        """A Dagster instance of this test's own."""
        if self._instance is None:
            home = Path(self._directory, "dagster")
            home.mkdir()
            launcher = {"module": "dagster_ray", "class": "RayRunLauncher"}
            self._instance = dg.DagsterInstance.local_temp(
                str(home), overrides={"run_launcher": launcher, "telemetry": {"enabled": False}}
            )
        return self._instance

    def out_of_memory(
        self,
        *,
        step: str | None = None,
        run: str | None = None,
        script: str | None = None,
        times: int = 1,
    ) -> None:
        """Kills a job that starts, as the system does for want of memory: of a step (its key or
        op), of a run (the name of its Dagster job), or of a script (a part of its command line)."""
        self._add("out-of-memory", step=step, run=run, script=script, times=times)

    def head_out_of_memory(self, *, step: str | None = None) -> None:
        """Fails every job that runs, once this step, or any job, does."""
        self._add("head-out-of-memory", step=step)

    def pending(
        self,
        *,
        step: str | None = None,
        run: str | None = None,
        script: str | None = None,
        times: int = 1,
    ) -> None:
        """Has a job wait for resources that never come."""
        self._add("pending", step=step, run=run, script=script, times=times)

    def unavailable(self, *, seconds: float, step: str | None = None) -> None:
        """Has Ray answer 503 for a while: from the next request on, or from the first one after
        this step has begun to run."""
        self._add("unavailable", seconds=seconds, step=step)

    def cut_log(self, *, after_lines: int, script: str | None = None, times: int = 1) -> None:
        """Breaks the connection that a script's output comes over."""
        self._add("log-cut", lines=after_lines, script=script, times=times)

    def lose_answer(
        self,
        *,
        step: str | None = None,
        run: str | None = None,
        script: str | None = None,
        times: int = 1,
    ) -> None:
        """Carries a submission out, and loses the answer."""
        self._add("answer-lost", step=step, run=run, script=script, times=times)

    def cluster_starts(self, *, seconds: float | None, times: int = 1) -> None:
        """Has a cluster get ready only after a while, or never (`None`)."""
        self._add("cluster-starts", seconds=seconds, times=times)

    def execute(
        self,
        code: Code,
        job: str | None = None,
        *,
        run_config: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        partition: str | None = None,
    ) -> Result:
        """Executes a job in this process, by its own executor.

        `code` is a module (`my_project.definitions`) or a file. Without a name it is the only job,
        or all assets. A run that fails raises nothing: look at the result.
        """
        reconstructable, definition = job_of(code, job)
        run_config, all_tags = with_partition(definition, partition, run_config, tags)
        executed = execute_job(reconstructable, self.instance, run_config=run_config, tags=all_tags)
        self._settle(executed.run_id)
        run = self.instance.get_run_by_id(executed.run_id) or executed.dagster_run
        return Result(self.instance, reconstructable, run)

    def launch(
        self,
        code: Code,
        job: str | None = None,
        *,
        run_config: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        partition: str | None = None,
    ) -> LaunchedRun:
        """Launches a job with a `RayRunLauncher`, and does not wait for it.

        Its run worker is a Ray job, and so is each step where its executor is `ray_executor`.
        """
        reconstructable, definition = job_of(code, job)
        run_config, all_tags = with_partition(definition, partition, run_config, tags)
        run = self.instance.create_run_for_job(
            definition,
            run_config=run_config,
            tags=all_tags,
            job_code_origin=reconstructable.get_python_origin(),
        )
        return LaunchedRun(self.instance, reconstructable, run, self._settle)

    @property
    def jobs(self) -> list[SimulatedJob]:
        """Every job so far, in the order of their submission."""
        prefix = key_file(self._directory, _JOB).name
        records = [json.loads(file.read_text()) for file in self._state.glob(f"{prefix}*")]
        records.sort(key=lambda record: record["submitted_ms"])
        return [self._job(record["submission"]) for record in records]

    def close(self) -> None:
        """Ends everything that still runs, and returns once nothing does."""
        key_file(self._directory, OVER).touch()
        for pid in self._wait_for_supervisors("*", _END_SECONDS):
            os.kill(pid, signal.SIGKILL)
        simulation.end_test(self._directory)
        if self._instance is not None:
            self._instance.dispose()

    def _add(self, fault: str, **about: Any) -> None:
        kept = {name: value for name, value in about.items() if value is not None}
        self._faults.append({"fault": fault, **kept})
        new = Path(self._directory, "faults.new")
        new.write_text(json.dumps(self._faults))
        new.replace(key_file(self._directory, _FAULTS))

    def _job(self, submission: Mapping[str, Any]) -> SimulatedJob:
        job = submission["submission_id"]
        status = self._status(job)
        log = Path(self._directory, "jobs", f"{job}.log")
        return SimulatedJob(
            submission_id=job,
            state=status["state"],
            message=status["message"],
            error_type=status["error_type"],
            exit_code=status["exit_code"],
            entrypoint=submission["entrypoint"],
            metadata=submission["metadata"],
            runtime_env=submission["runtime_env"],
            output=log.read_text(errors="replace") if log.exists() else "",
        )

    def _status(self, job: str) -> dict[str, Any]:
        """What became of a job is the component's to say, for us as for Dagster."""
        reference = {"run_id": "", "attempt": 0, "job": {"submission_id": job}}
        deadline = time.monotonic() + _END_SECONDS
        while True:
            try:
                [status] = self._backend.call("launcher.check", {"runs": [reference]})
                return status
            except UnavailableError:
                # A scripted outage passes while it is asked.
                if time.monotonic() >= deadline:
                    raise

    def _settle(self, run_id: str) -> None:
        """Waits for the jobs of a run that has ended: they have reported, and are about to end."""
        self._wait_for_supervisors(f"*{run_id}*", _SETTLE_SECONDS)

    def _wait_for_supervisors(self, jobs: str, seconds: float) -> list[int]:
        """Returns those that live on after so many seconds."""
        deadline = time.monotonic() + seconds
        while (left := self._supervisors(jobs)) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        return left

    def _supervisors(self, jobs: str) -> list[int]:
        """Those that live. A later process of the same id is not taken for one."""
        found = []
        for file in Path(self._directory, "jobs").glob(f"{jobs}.pid"):
            try:
                pid = int(file.read_text())
                line = Path("/proc", str(pid), "cmdline").read_bytes()
            except (OSError, ValueError):
                continue
            if self._directory.encode() in line:
                found.append(pid)
        return found
