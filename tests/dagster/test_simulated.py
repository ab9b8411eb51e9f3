"""Tests with `simulated_ray` as users write them, on a project without changes for the simulation.

Steps and scripts are executed; Ray is not needed.
"""

import importlib.util
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster_ray.backend import Backend
from dagster_ray.configs import BackendConfig
from dagster_ray.contract import ExecutorClient, JobStatus, StepRef
from dagster_ray.errors import (
    BackendError,
    CallTimeoutError,
    ComponentTrap,
    InvalidConfigError,
    UnavailableError,
)
from dagster_ray.executor import step_handler
from dagster_ray.simulation.supervisor import key_file
from dagster_ray.testing import SimulatedRay
from processes import wait_for

SCRIPT = """
from dagster_pipes import PipesDefaultMessageWriter, open_dagster_pipes
with open_dagster_pipes() as pipes:
    for line in range(20):
        print(f"line {line}", flush=True)
    pipes.report_asset_materialization(metadata={"rows": 20})
"""
PROJECT = Path(__file__).parent / "code" / "simulated_project.py"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "it.py"
    file.write_text(SCRIPT)
    monkeypatch.setenv("SCRIPT", str(file))


def test_steps_run_as_simulated_ray_jobs_and_their_values_are_readable(
    simulated_ray: SimulatedRay,
) -> None:
    result = simulated_ray.execute(PROJECT, job="training")
    assert result.success, result
    assert [(job.step, job.state) for job in simulated_ray.jobs] == [
        ("load", "succeeded"),
        ("train", "succeeded"),
    ]
    assert simulated_ray.jobs[1].submission_id == f"dagster-step-{result.run_id}-train"
    assert (result.value("load"), result.value("train")) == ([1, 2, 3], 6)
    assert "trained as train, try 0" in result.logs
    kinds = [event.event_type for event in result.step_events("train")]
    assert kinds[0] == dg.DagsterEventType.STEP_WORKER_STARTING
    assert kinds[-1] == dg.DagsterEventType.STEP_SUCCESS
    assert {event.step_key for event in result.step_events("train")} == {"train"}
    assert result.step_events("no such step") == []


def test_a_step_that_runs_out_of_memory_is_retried(simulated_ray: SimulatedRay) -> None:
    simulated_ray.out_of_memory(step="train", times=1)
    result = simulated_ray.execute(PROJECT, job="training")
    assert result.success, result
    killed, retried = simulated_ray.jobs[1:]
    assert (killed.state, killed.exit_code) == ("failed", -9)
    assert killed.error_type == "JOB_ENTRYPOINT_COMMAND_ERROR"
    assert retried.submission_id == f"{killed.submission_id}-1"
    [error] = result.errors
    assert "step train" in error and "Job entrypoint command failed with exit code -9" in error


def test_a_minute_without_dashboard_fails_no_step_and_is_skipped(
    simulated_ray: SimulatedRay,
) -> None:
    simulated_ray.unavailable(seconds=60, step="train")
    began = time.monotonic()
    result = simulated_ray.execute(PROJECT, job="training")
    assert result.success, result
    assert any("Ray's jobs cannot be checked" in line for line in result.logs)
    assert [job.step for job in simulated_ray.jobs] == ["load", "train"]
    assert simulated_ray.clock.elapsed >= 60
    assert time.monotonic() - began < 60


def test_checks_of_steps_that_fail_are_one_event_at_the_beginning_and_one_at_the_end(
    simulated_ray: SimulatedRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_check = ExecutorClient.check
    errors = [ComponentTrap("it crashed"), BackendError("answered 401"), UnavailableError("reset")]

    def check(self: ExecutorClient, steps: Sequence[StepRef], **options: Any) -> list[JobStatus]:
        if errors:
            raise errors.pop(0)
        return real_check(self, steps, **options)

    monkeypatch.setattr(ExecutorClient, "check", check)
    result = simulated_ray.execute(PROJECT, job="training")
    assert result.success, result
    assert not errors
    began, ended = [line for line in result.logs if "be checked" in line]
    assert "Ray's jobs cannot be checked" in began and "it crashed" in began
    assert "Ray's jobs can be checked again" in ended
    assert not any("Error while checking health" in line for line in result.logs)


@pytest.mark.timeout(60)
def test_steps_that_exit_silently_fail_when_a_round_of_checks_outlasts_the_statuses(
    simulated_ray: SimulatedRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each status is old at once, as in a run with hundreds of steps.
    monkeypatch.setattr(step_handler, "_STATUS_SECONDS", -1.0)
    result = simulated_ray.execute(PROJECT, job="exiting")
    assert not result.success
    for step in ("first", "second", "third"):
        assert any(
            f"step {step} ended without reporting the step's result" in error
            for error in result.errors
        ), result
    # A step that has failed is not submitted again.
    assert len(simulated_ray.jobs) == 3


def test_launch_is_idempotent_when_the_response_is_lost(simulated_ray: SimulatedRay) -> None:
    simulated_ray.lose_response(times=2)
    result = simulated_ray.execute(PROJECT, job="training")
    assert result.success, result
    assert [job.step for job in simulated_ray.jobs] == ["load", "train"]


def test_a_launch_is_given_up_before_a_minute_has_passed(simulated_ray: SimulatedRay) -> None:
    simulated_ray.unavailable(seconds=60)
    result = simulated_ray.execute(PROJECT, job="training")
    assert not result.success
    # `load` has no retry policy.
    assert "answered 503" in repr(result)
    assert 5 < simulated_ray.clock.skipped < 60


def test_a_head_out_of_memory_fails_the_step_which_is_retried(simulated_ray: SimulatedRay) -> None:
    simulated_ray.head_out_of_memory(step="train")
    result = simulated_ray.execute(PROJECT, job="training")
    assert result.success, result
    # The job of `load` may still exist, although its step has ended.
    trained = [job for job in simulated_ray.jobs if job.step == "train"]
    assert [job.error_type for job in trained] == ["JOB_SUPERVISOR_ACTOR_DIED", None]
    assert "NODE_OUT_OF_MEMORY" in (trained[0].message or "")


def test_a_failed_step_shows_its_exception_with_the_traceback(simulated_ray: SimulatedRay) -> None:
    result = simulated_ray.execute(PROJECT, job="breaking")
    assert not result.success
    for part in ("ValueError: the input file is damaged", "simulated_project.py", "in broken"):
        assert part in repr(result)


def test_a_script_reports_completely_when_its_log_stream_is_cut(
    simulated_ray: SimulatedRay, script: None
) -> None:
    simulated_ray.cut_log(after_lines=3, times=2)
    result = simulated_ray.execute(PROJECT, job="scripts")
    assert result.success, result
    assert {job.state for job in simulated_ray.jobs} == {"succeeded"}
    rows = [
        event.step_materialization_data.materialization.metadata["rows"].value
        for event in result.events
        if event.is_step_materialization
    ]
    assert rows == [20, 20]
    captured = [
        file.read_text() for file in Path(simulated_ray.instance.root_directory).rglob("*.out")
    ]
    lines = [line for text in captured for line in text.splitlines() if line.startswith("line ")]
    assert lines == [f"line {n}" for n in range(20)] * 2


def test_a_slow_cluster_is_awaited_and_one_that_never_starts_times_out(
    simulated_ray: SimulatedRay,
) -> None:
    simulated_ray.cluster_starts(seconds=200)
    result = simulated_ray.execute(PROJECT, job="clusters")
    assert result.success, result
    assert result.value("on_a_cluster").startswith("simulated-")
    assert simulated_ray.clock.elapsed >= 200
    assert 190 < simulated_ray.clock.skipped < 210
    simulated_ray.cluster_starts(seconds=None)
    result = simulated_ray.execute(PROJECT, job="clusters")
    assert not result.success
    assert "not finished within 300 s" in repr(result)


def test_a_partition_is_executed_in_its_own_run(simulated_ray: SimulatedRay) -> None:
    result = simulated_ray.execute(PROJECT, job="partitions", partition="b")
    assert result.success, result
    assert result.run.tags["dagster/partition"] == "b"
    assert result.value("partitioned") == "value of b"


def test_a_launched_run_has_a_run_worker_job(simulated_ray: SimulatedRay) -> None:
    launched = simulated_ray.launch(PROJECT, job="training")
    assert not launched.run.is_finished
    result = launched.wait()
    assert result.success, result
    assert launched.run.is_finished and launched.run_id == result.run_id
    ids = [job.submission_id for job in simulated_ray.jobs]
    run = result.run_id
    assert ids == [f"dagster-run-{run}", f"dagster-step-{run}-load", f"dagster-step-{run}-train"]


def test_waiting_for_a_run_or_step_times_out_with_its_name(
    simulated_ray: SimulatedRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
    launched = simulated_ray.launch(PROJECT, job="waiting")
    with pytest.raises(CallTimeoutError, match="has not ended within 0 s") as raised:
        launched.wait(timeout=0.1)
    assert launched.run_id in str(raised.value)
    with pytest.raises(CallTimeoutError, match="no such step has not begun"):
        launched.wait_for_step("no such step", timeout=0.1)
    launched.terminate()


def test_the_clock_counts_elapsed_and_skipped_time(simulated_ray: SimulatedRay) -> None:
    assert simulated_ray.clock.skipped == 0
    began = simulated_ray.clock.elapsed
    time.sleep(0.2)
    assert 0.2 <= simulated_ray.clock.elapsed - began < 5
    simulated_ray.cluster_starts(seconds=200)
    assert simulated_ray.execute(PROJECT, job="clusters").success
    clock = simulated_ray.clock
    assert clock.elapsed - clock.skipped < 60 < 190 < clock.skipped


def test_a_killed_run_worker_fails_its_run(simulated_ray: SimulatedRay) -> None:
    simulated_ray.out_of_memory(run="training")
    result = simulated_ray.launch(PROJECT, job="training").wait()
    assert not result.success
    assert "exit code -9" in repr(result), result


def test_a_pending_run_worker_can_be_killed(simulated_ray: SimulatedRay) -> None:
    simulated_ray.pending(run="training")
    launched = simulated_ray.launch(PROJECT, job="training")
    result = launched.terminate()
    assert result.run.status == dg.DagsterRunStatus.CANCELED, result
    assert (simulated_ray.jobs[0].message or "").startswith("Job supervisor actor died")


def test_a_terminated_run_leaves_no_process(
    simulated_ray: SimulatedRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    monkeypatch.setenv("PIDS", str(pids))
    launched = simulated_ray.launch(PROJECT, job="waiting")
    launched.wait_for_step("endless")
    wait_for("the step's child process", pids.exists, 30)
    result = launched.terminate()
    assert result.run.status == dg.DagsterRunStatus.CANCELED, result
    assert [job.state for job in simulated_ray.jobs] == ["stopped", "stopped"]
    assert not _living(pids)


def test_closing_the_simulation_ends_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    monkeypatch.setenv("PIDS", str(pids))
    simulated = SimulatedRay(tmp_path / "simulation")
    other = SimulatedRay(tmp_path / "another")
    for name, value in simulated.environment.items():
        if value is not None:
            monkeypatch.setenv(name, value)
    try:
        simulated.launch(PROJECT, job="waiting")
        wait_for("the step's child process", pids.exists, 60)
        assert not other.jobs
        assert len(_living(pids)) == 2
    finally:
        simulated.close()
        other.close()
    assert not _living(pids)
    assert not list((tmp_path / "simulation" / "jobs").glob("*.pid"))


def test_the_error_for_an_invalid_fault_names_its_path(simulated_ray: SimulatedRay) -> None:
    directory = simulated_ray.environment["DAGSTER_RAY_SIMULATION"]
    assert directory is not None
    key_file(directory, "faults").write_text('[{"fault": "pending", "stepp": "train"}]')
    with pytest.raises(InvalidConfigError, match=r"faults\[0\].stepp") as raised:
        Backend(BackendConfig(address="http://no.such.host")).call("launcher.check", {"runs": []})
    assert raised.value.fields and raised.value.fields[0]["hint"]


def test_the_simulation_ignores_the_options_and_grants_of_another_backend(
    simulated_ray: SimulatedRay,
) -> None:
    config = BackendConfig(
        backend="kuberay",
        backend_config={"namespace": "production"},
        backend_grants={"grants": {"http": ["address"]}},
        backend_sha256="0" * 64,
    )
    backend = Backend(config)
    assert backend.call("launcher.check", {"runs": []}) == []
    assert (backend.options, backend.url) == ({}, "http://ray.simulated:8265")


def test_the_error_for_an_unknown_job_lists_the_known_jobs(simulated_ray: SimulatedRay) -> None:
    with pytest.raises(InvalidConfigError, match="breaking, clusters, exiting, partitions"):
        simulated_ray.execute(PROJECT, job="trainning")
    with pytest.raises(InvalidConfigError, match=r"file .*nowhere\.py does not exist"):
        simulated_ray.execute("nowhere.py")


def test_the_simulation_does_not_import_ray() -> None:
    assert importlib.util.find_spec("ray") is not None, "the environment of the tests has it"
    program = "import sys, dagster_ray.testing.simulated; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def _living(pids: Path) -> list[str]:
    def lives(pid: str) -> bool:
        try:
            return " Z " not in Path("/proc", pid, "stat").read_text()
        except OSError:
            return False

    return [pid for pid in pids.read_text().split() if lives(pid)]
