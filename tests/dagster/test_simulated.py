"""Tests as users write them, on a project that knows nothing of a simulation. Everything is
executed for real, and Ray is not needed."""

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest
from dagster_ray.backend import Backend, Connection
from dagster_ray.errors import CallTimeoutError, InvalidConfigError
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


def test_a_job_runs_its_steps_as_ray_jobs_and_its_values_can_be_read(
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


def test_a_dashboard_that_is_away_for_a_minute_costs_no_step_and_no_minute(
    simulated_ray: SimulatedRay,
) -> None:
    simulated_ray.unavailable(seconds=60, step="train")
    began = time.monotonic()
    result = simulated_ray.execute(PROJECT, job="training")
    assert result.success, result
    assert any("Ray could not be asked about the steps" in line for line in result.logs)
    assert [job.step for job in simulated_ray.jobs] == ["load", "train"]
    assert simulated_ray.clock.elapsed >= 60
    assert time.monotonic() - began < 60


def test_a_launch_whose_answer_is_lost_starts_nothing_twice(simulated_ray: SimulatedRay) -> None:
    simulated_ray.lose_answer(times=2)
    result = simulated_ray.execute(PROJECT, job="training")
    assert result.success, result
    assert [job.step for job in simulated_ray.jobs] == ["load", "train"]


def test_a_launch_is_not_tried_for_a_minute(simulated_ray: SimulatedRay) -> None:
    simulated_ray.unavailable(seconds=60)
    result = simulated_ray.execute(PROJECT, job="training")
    assert not result.success
    # `load` has no retry policy.
    assert "answered 503" in repr(result)
    assert 5 < simulated_ray.clock.skipped < 60


def test_a_head_that_runs_out_of_memory_takes_the_step_along(simulated_ray: SimulatedRay) -> None:
    simulated_ray.head_out_of_memory(step="train")
    result = simulated_ray.execute(PROJECT, job="training")
    assert result.success, result
    # `load` has reported by then, and may or may not have gone.
    trained = [job for job in simulated_ray.jobs if job.step == "train"]
    assert [job.error_type for job in trained] == ["JOB_SUPERVISOR_ACTOR_DIED", None]
    assert "NODE_OUT_OF_MEMORY" in (trained[0].message or "")


def test_what_a_step_raised_is_told_with_its_traceback(simulated_ray: SimulatedRay) -> None:
    result = simulated_ray.execute(PROJECT, job="breaking")
    assert not result.success
    for part in ("ValueError: there is a hole in the bucket", "simulated_project.py", "in broken"):
        assert part in repr(result)


def test_a_script_reports_back_although_its_log_is_cut(
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
    whole = [line for text in captured for line in text.splitlines() if line.startswith("line ")]
    assert whole == [f"line {n}" for n in range(20)] * 2


def test_a_cluster_that_starts_slowly_is_waited_for_and_one_that_never_does_is_given_up(
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


def test_a_partition_is_a_run_of_its_own(simulated_ray: SimulatedRay) -> None:
    result = simulated_ray.execute(PROJECT, job="partitions", partition="b")
    assert result.success, result
    assert result.run.tags["dagster/partition"] == "b"
    assert result.value("partitioned") == "value of b"


def test_a_launched_run_has_a_worker_of_its_own_on_ray(simulated_ray: SimulatedRay) -> None:
    launched = simulated_ray.launch(PROJECT, job="training")
    assert not launched.run.is_finished
    result = launched.wait()
    assert result.success, result
    assert launched.run.is_finished and launched.run_id == result.run_id
    ids = [job.submission_id for job in simulated_ray.jobs]
    run = result.run_id
    assert ids == [f"dagster-run-{run}", f"dagster-step-{run}-load", f"dagster-step-{run}-train"]


def test_a_run_that_does_not_end_in_time_says_so(
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


def test_the_clock_counts_what_is_skipped_and_what_is_not(simulated_ray: SimulatedRay) -> None:
    assert simulated_ray.clock.skipped == 0
    began = simulated_ray.clock.elapsed
    time.sleep(0.2)
    assert 0.2 <= simulated_ray.clock.elapsed - began < 5
    simulated_ray.cluster_starts(seconds=200)
    assert simulated_ray.execute(PROJECT, job="clusters").success
    clock = simulated_ray.clock
    assert clock.elapsed - clock.skipped < 60 < 190 < clock.skipped


def test_a_run_worker_that_is_killed_fails_its_run(simulated_ray: SimulatedRay) -> None:
    simulated_ray.out_of_memory(run="training")
    result = simulated_ray.launch(PROJECT, job="training").wait()
    assert not result.success
    assert "exit code -9" in repr(result), result


def test_a_run_worker_that_never_starts_can_be_withdrawn(simulated_ray: SimulatedRay) -> None:
    simulated_ray.pending(run="training")
    launched = simulated_ray.launch(PROJECT, job="training")
    result = launched.terminate()
    assert result.run.status == dg.DagsterRunStatus.CANCELED, result
    assert (simulated_ray.jobs[0].message or "").startswith("Job supervisor actor died")


def test_a_run_that_is_terminated_leaves_no_process(
    simulated_ray: SimulatedRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    monkeypatch.setenv("PIDS", str(pids))
    launched = simulated_ray.launch(PROJECT, job="waiting")
    launched.wait_for_step("endless")
    wait_for("the step's own process", pids.exists, 30)
    result = launched.terminate()
    assert result.run.status == dg.DagsterRunStatus.CANCELED, result
    assert [job.state for job in simulated_ray.jobs] == ["stopped", "stopped"]
    assert not _living(pids)


def test_the_end_of_a_test_ends_what_it_left_running(
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
        wait_for("the step's own process", pids.exists, 60)
        assert not other.jobs
        assert len(_living(pids)) == 2
    finally:
        simulated.close()
        other.close()
    assert not _living(pids)
    assert not list((tmp_path / "simulation" / "jobs").glob("*.pid"))


def test_a_fault_that_makes_no_sense_is_told_with_its_place(simulated_ray: SimulatedRay) -> None:
    directory = simulated_ray.environment["DAGSTER_RAY_SIMULATION"]
    assert directory is not None
    key_file(directory, "faults").write_text('[{"fault": "pending", "stepp": "train"}]')
    with pytest.raises(InvalidConfigError, match=r"faults\[0\].stepp") as raised:
        Backend(Connection(address="http://no.such.host")).call("launcher.check", {"runs": []})
    assert raised.value.fields and raised.value.fields[0]["hint"]


def test_what_is_said_of_another_backend_is_not_meant_for_the_simulation(
    simulated_ray: SimulatedRay,
) -> None:
    connection = Connection(
        backend="kuberay",
        backend_config={"namespace": "production"},
        backend_grants={"grants": {"http": ["address"]}},
        backend_sha256="0" * 64,
    )
    backend = Backend(connection)
    assert backend.call("launcher.check", {"runs": []}) == []
    assert (backend.options, backend.url) == ({}, "http://ray.simulated:8265")


def test_a_wrong_name_is_answered_with_the_right_ones(simulated_ray: SimulatedRay) -> None:
    with pytest.raises(InvalidConfigError, match="breaking, clusters, partitions"):
        simulated_ray.execute(PROJECT, job="trainning")
    with pytest.raises(InvalidConfigError, match=r"no file .*nowhere\.py"):
        simulated_ray.execute("nowhere.py")


def test_rays_own_python_is_not_needed() -> None:
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
