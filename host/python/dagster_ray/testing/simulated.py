"""The simulated Ray of the fixture `simulated_ray`."""

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
from dagster_ray.backend import Backend
from dagster_ray.configs import BackendConfig
from dagster_ray.contract import JobStatus, LauncherClient, RunRef
from dagster_ray.errors import UnavailableError
from dagster_ray.simulation.supervisor import SHUTDOWN_KEY, key_file, write_atomically
from dagster_ray.testing.code import Code, load_job, with_partition
from dagster_ray.testing.results import Result
from dagster_ray.testing.runs import LaunchedRun

_FAULTS = "faults"
_CLOCK = "clock"
_JOB = "job/"
# How long supervisors may take to end their jobs before they are killed.
_END_SECONDS = 10.0
# How long a test waits for the jobs of a run after the run's end.
_SETTLE_SECONDS = 5.0
_LOOK_SECONDS = 0.02
_POLL_SECONDS = "0.05"


@dataclass(frozen=True)
class Clock:
    """The simulation's clock: the real time plus all skipped waits."""

    _directory: str
    _began: float

    @property
    def elapsed(self) -> float:
        """Seconds since the simulation began, including skipped waits."""
        return time.time() - self._began + self.skipped

    @property
    def skipped(self) -> float:
        """Seconds of skipped waits."""
        file = key_file(self._directory, _CLOCK)
        return int(file.read_text()) / 1_000 if file.exists() else 0.0


@dataclass(frozen=True)
class SimulatedJob:
    """A Ray job of the simulation."""

    submission_id: str
    # `pending`, `running`, `succeeded`, `failed`, `stopped`.
    state: str
    # Ray's message about the job's state.
    message: str | None
    error_type: str | None
    exit_code: int | None
    entrypoint: str
    metadata: Mapping[str, str]
    runtime_env: Mapping[str, object]
    # Standard output and standard error, merged.
    output: str

    @property
    def step(self) -> str | None:
        """The step key if the job runs a step. The job of a script has none."""
        is_step = self.submission_id.startswith("dagster-step-")
        return self.metadata.get("dagster/op") if is_step else None


class SimulatedRay:
    """A simulated Ray for one test. See the package's docstring for an example."""

    def __init__(self, directory: Path) -> None:
        self._directory = str(directory.absolute())
        self._state = Path(self._directory, "state")
        self._state.mkdir(parents=True)
        simulation.begin_test(self._directory)
        self._faults: list[dict[str, object]] = []
        self._instance: dg.DagsterInstance | None = None
        self.clock = Clock(self._directory, time.time())

    @cached_property
    def _backend(self) -> Backend:
        settings = {simulation.SETTING: self._directory}
        return Backend(BackendConfig(backend="simulated", backend_config=settings))

    @property
    def environment(self) -> dict[str, str | None]:
        """Environment variables for this process and its children; `None` unsets one."""
        return {
            simulation.VARIABLE: self._directory,
            "DAGSTER_STEP_DELEGATING_EXECUTOR_SLEEP_SECONDS": _POLL_SECONDS,
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "RAY_ADDRESS": None,
            "RAY_API_SERVER_ADDRESS": None,
        }

    @property
    def instance(self) -> dg.DagsterInstance:
        """The test's Dagster instance."""
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
        """Kills matching jobs at their start, as the kernel does when memory runs out.

        `step` is a step key or op name, `run` the name of a Dagster job, and `script` a part of a
        script's command line. `times` limits the number of jobs.
        """
        self._add("out-of-memory", step=step, run=run, script=script, times=times)

    def head_out_of_memory(self, *, step: str | None = None) -> None:
        """Fails all running jobs as soon as this step, or without it any job, runs."""
        self._add("head-out-of-memory", step=step)

    def pending(
        self,
        *,
        step: str | None = None,
        run: str | None = None,
        script: str | None = None,
        times: int = 1,
    ) -> None:
        """Keeps matching jobs pending, as if their resources were never available."""
        self._add("pending", step=step, run=run, script=script, times=times)

    def unavailable(self, *, seconds: float, step: str | None = None) -> None:
        """Makes Ray answer 503 for `seconds`.

        The outage begins with the next request, or with the first one after `step` has begun.
        """
        self._add("unavailable", seconds=seconds, step=step)

    def cut_log(self, *, after_lines: int, script: str | None = None, times: int = 1) -> None:
        """Cuts the log stream of matching scripts after `after_lines` lines."""
        self._add("log-cut", lines=after_lines, script=script, times=times)

    def lose_response(
        self,
        *,
        step: str | None = None,
        run: str | None = None,
        script: str | None = None,
        times: int = 1,
    ) -> None:
        """Executes the submission of matching jobs, but drops the response."""
        self._add("answer-lost", step=step, run=run, script=script, times=times)

    def cluster_starts(self, *, seconds: float | None, times: int = 1) -> None:
        """Makes clusters ready only after `seconds`, or never with `None`."""
        self._add("cluster-starts", seconds=seconds, times=times)

    def execute(
        self,
        code: Code,
        job: str | None = None,
        *,
        run_config: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
        partition: str | None = None,
    ) -> Result:
        """Executes a job in this process with the job's executor.

        `code` is a module (`my_project.definitions`) or a file. Without `job`, the only job or all
        assets are executed. A failed run does not raise: check the result.
        """
        reconstructable, definition = load_job(code, job)
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
        run_config: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
        partition: str | None = None,
    ) -> LaunchedRun:
        """Launches a job with `RayRunLauncher`, without waiting for its end.

        The run worker is a Ray job, and so is each step of a job that uses `ray_executor`.
        """
        reconstructable, definition = load_job(code, job)
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
        """All jobs so far, in order of submission."""
        prefix = key_file(self._directory, _JOB).name
        records = [json.loads(file.read_text()) for file in self._state.glob(f"{prefix}*")]
        records.sort(key=lambda record: record["submitted_ms"])
        return [self._job(record) for record in records]

    def close(self) -> None:
        """Ends all jobs, and returns when none runs."""
        key_file(self._directory, SHUTDOWN_KEY).touch()
        for pid in self._wait_for_supervisors("*", _END_SECONDS):
            os.kill(pid, signal.SIGKILL)
        simulation.end_test(self._directory)
        if self._instance is not None:
            self._instance.dispose()

    def _add(self, fault: str, **about: object) -> None:
        kept = {name: value for name, value in about.items() if value is not None}
        self._faults.append({"fault": fault, **kept})
        # Beside the bucket, in which each file is a key.
        new = Path(self._directory, "faults.new")
        write_atomically(key_file(self._directory, _FAULTS), json.dumps(self._faults), new)

    def _job(self, record: Mapping[str, Any]) -> SimulatedJob:
        submission = record["submission"]
        job = submission["submission_id"]
        status = self._status(job)
        log = Path(self._directory, "jobs", f"{record['process']}.log")
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

    def _status(self, job: str) -> JobStatus:
        """Returns a job's status as the component reports it to Dagster."""
        reference: RunRef = {
            "run_id": "",
            "attempt": 0,
            "job": {"submission_id": job, "dashboard_url": None, "details": None},
        }
        deadline = time.monotonic() + _END_SECONDS
        while True:
            try:
                [status] = LauncherClient(self._backend).check([reference])
                return status
            except UnavailableError:
                # The waits of each call advance the clock, until an injected outage is over.
                if time.monotonic() >= deadline:
                    raise

    def _settle(self, run_id: str) -> None:
        """Waits until the jobs of an ended run have exited."""
        self._wait_for_supervisors(f"*{run_id}*", _SETTLE_SECONDS)

    def _wait_for_supervisors(self, jobs: str, seconds: float) -> list[int]:
        """Waits at most `seconds`, and returns the ids of supervisors that still run."""
        deadline = time.monotonic() + seconds
        while (left := self._supervisors(jobs)) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        return left

    def _supervisors(self, jobs: str) -> list[int]:
        """Returns the process ids of running supervisors, and checks for reused ids."""
        found: list[int] = []
        for file in Path(self._directory, "jobs").glob(f"{jobs}.pid"):
            try:
                pid = int(file.read_text())
                line = Path("/proc", str(pid), "cmdline").read_bytes()
            except (OSError, ValueError):
                continue
            if self._directory.encode() in line:
                found.append(pid)
        return found
