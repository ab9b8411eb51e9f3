"""What runs leave on a real Ray when their processes are killed, and who stops it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster_ray.deployment import deployment_id
from dagster_ray.reconcile import (
    ReconcileRayConfig,
    reconcile,
    reconcile_ray,
    reconcile_ray_sensor,
)
from dagster_ray.reconcile.launcher_backend import launcher_backend
from dagster_ray.reconcile.step_ends import step_ends
from dagster_ray.testing.code import load_job
from processes import command_lines, kill, wait_for
from ray_head import RayHead

CODE = Path(__file__).parent / "code"
ENDED = {"STOPPED", "FAILED", "SUCCEEDED"}

Home = Callable[[dict], dg.DagsterInstance]


def _instance(home: Home, ray_head: RayHead) -> dg.DagsterInstance:
    launcher = {
        "module": "dagster_ray",
        "class": "RayRunLauncher",
        "config": {"ray": {"address": ray_head.url}},
    }
    return home({"run_launcher": launcher})


def _launch(instance: dg.DagsterInstance, file: str, job: str, ops: dict) -> dg.DagsterRun:
    reconstructable, definition = load_job(CODE / file, job)
    run = instance.create_run_for_job(
        definition,
        run_config={"ops": ops},
        job_code_origin=reconstructable.get_python_origin(),
    )
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    return run


def _kill_worker(run: dg.DagsterRun) -> None:
    found = [
        pid
        for pid, line in command_lines().items()
        if "api execute_run" in line and run.run_id in line
    ]
    assert found, "the run worker"
    for pid in found:
        kill(pid)


def _live(ray_head: RayHead, instance: dg.DagsterInstance) -> list[str]:
    """Returns the jobs of a deployment that have not ended."""
    ours = deployment_id(instance)
    return sorted(
        name
        for name, job in ray_head.jobs().items()
        if job["status"] not in ENDED
        and (job["metadata"] or {}).get("dagster-ray/deployment") == ours
    )


def _two_steps(instance: dg.DagsterInstance, marks: Path) -> dg.DagsterRun:
    """Launches a run and kills its worker once two of its steps run."""
    marks.mkdir()
    config = {"config": {"marks": str(marks)}}
    run = _launch(instance, "runs.py", "long", dict.fromkeys(("one", "two", "beside"), config))
    wait_for("all steps", lambda: len(list(marks.glob("*.started"))) == 3, 120)
    _kill_worker(run)
    return run


def _command(instance: dg.DagsterInstance, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DAGSTER_HOME": instance.root_directory}
    return subprocess.run(
        [sys.executable, "-m", "dagster_ray", "reconcile", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def ours(home: Home, ray_head: RayHead) -> Iterator[dg.DagsterInstance]:
    instance = _instance(home, ray_head)
    yield instance
    _stop(ray_head, instance)


@pytest.fixture
def others(home: Home, ray_head: RayHead) -> Iterator[dg.DagsterInstance]:
    instance = _instance(home, ray_head)
    yield instance
    _stop(ray_head, instance)


def _stop(ray_head: RayHead, instance: dg.DagsterInstance) -> None:
    for name in _live(ray_head, instance):
        ray_head.stop_job(name)


@pytest.mark.timeout(400)
def test_two_deployments_stop_the_steps_of_their_killed_run_workers_and_no_others(
    ray_head: RayHead,
    ours: dg.DagsterInstance,
    others: dg.DagsterInstance,
    tmp_path: Path,
) -> None:
    our_run = _two_steps(ours, tmp_path / "ours")
    their_run = _two_steps(others, tmp_path / "others")
    our_steps = {f"dagster-step-{our_run.run_id}-{key}" for key in ("one", "two")}
    their_steps = {f"dagster-step-{their_run.run_id}-{key}" for key in ("one", "two")}
    wait_for(
        "the end of the killed workers",
        lambda: (
            (set(_live(ray_head, ours)), set(_live(ray_head, others))) == (our_steps, their_steps)
        ),
        90,
    )

    # A live run keeps its steps: Dagster may resume it.
    found = reconcile(ours, launcher_backend(ours), ended_grace_seconds=0)
    assert {one["outcome"] for one in found} <= {"not-owned"}

    ours.report_run_failed(our_run, "Its worker was killed.")
    assert {one["outcome"] for one in reconcile(ours, launcher_backend(ours))} <= {"not-owned"}
    done = _command(ours, "--dry-run", "--json", "--grace", "0")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    planned = {one["name"]: one for one in report["leftovers"]}
    assert {name for name, one in planned.items() if one["outcome"] == "would-remove"} == our_steps
    assert all(planned[name]["outcome"] == "not-owned" for name in their_steps)
    assert planned[min(our_steps)]["reason"] == "its run has failed or was canceled"
    assert set(_live(ray_head, ours)) == our_steps

    done = _command(ours, "--grace", "0")
    assert done.returncode == 0, done.stderr
    assert all(f"Removed: Ray job {name} " in done.stdout for name in our_steps)
    assert not _live(ray_head, ours)
    assert set(_live(ray_head, others)) == their_steps

    # The health check finds the worker dead. The steps are stopped once Dagster ends the run.
    health = others.run_launcher.check_run_worker_health(their_run)
    assert health.status == WorkerStatus.FAILED
    others.report_run_failed(their_run, "Its worker was killed.")
    wait_for("the end of the steps", lambda: not _live(ray_head, others), 120)


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_terminating_a_run_stops_the_steps_that_its_killed_worker_left(
    ray_head: RayHead, ours: dg.DagsterInstance, tmp_path: Path
) -> None:
    run = _two_steps(ours, tmp_path / "marks")
    assert ours.run_launcher.terminate(run.run_id)
    assert not _live(ray_head, ours)
    ended = ours.get_run_by_id(run.run_id)
    assert ended and ended.status == dg.DagsterRunStatus.CANCELED


@pytest.mark.timeout(300)
def test_the_script_of_a_killed_step_worker_ends_before_the_steps_retry(
    ray_head: RayHead, ours: dg.DagsterInstance, tmp_path: Path
) -> None:
    config = {"config": {"marks": str(tmp_path), "address": ray_head.url}}
    run = _launch(ours, "scripts.py", "scripted", {"runs_script": config})
    second = tmp_path / "attempt-1"
    wait_for("the second attempt", second.exists, 150)
    jobs = ray_head.jobs(run.run_id)
    [script] = [job for name, job in jobs.items() if name.startswith("dagster-pipes-")]
    assert script["status"] in ENDED
    assert script["metadata"]["dagster-ray/attempt"] == "0"
    assert script["metadata"]["dagster/op"] == "runs_script"
    wait_for("the end of the run", lambda: _has_ended(ours, run), 60)
    wait_for("the end of its workers", lambda: not _live(ray_head, ours), 60)


def _has_ended(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    current = instance.get_run_by_id(run.run_id)
    return current is not None and current.is_finished


@pytest.mark.timeout(300)
def test_a_submission_that_arrives_after_its_run_has_ended_is_found_by_the_sensor_and_the_job(
    ray_head: RayHead, ours: dg.DagsterInstance
) -> None:
    run = ours.create_run_for_job(reconcile_ray)
    ours.report_run_failed(run, "It has ended.")
    late = f"dagster-step-{run.run_id}-late"
    metadata = {
        "dagster/run-id": run.run_id,
        "dagster/op": "late",
        "dagster-ray/attempt": "0",
        "dagster-ray/deployment": deployment_id(ours),
    }
    ray_head.submit({"entrypoint": "sleep 600", "submission_id": late, "metadata": metadata})
    wait_for("the job", lambda: late in _live(ray_head, ours), 60)
    # The run has just ended, so this may be its last work.
    evaluated = reconcile_ray_sensor.evaluate_tick(dg.build_sensor_context(ours))
    assert evaluated.skip_message == "Nothing has outlived its run."
    config = dg.RunConfig({"reconcile_ray_op": ReconcileRayConfig(ended_grace_seconds=0)})
    result = reconcile_ray.execute_in_process(instance=ours, run_config=config)
    assert result.success
    assert not _live(ray_head, ours)


def test_the_ends_of_attempts_are_read_from_the_event_log(home: Home) -> None:
    instance = home({})
    attempts: list[int] = []

    @dg.op(retry_policy=dg.RetryPolicy(max_retries=1))
    def flaky(context: dg.OpExecutionContext) -> None:
        attempts.append(context.retry_number)
        if context.retry_number == 0:
            raise RuntimeError("the first try fails")
        # Attempt 0 has ended, and attempt 1 is this one.
        [end] = step_ends(instance, context.run_id)
        assert (end["step_key"], end["attempt"]) == ("flaky", 0)

    @dg.job
    def job() -> None:
        flaky()

    result = job.execute_in_process(instance=instance)
    assert attempts == [0, 1]
    [end] = step_ends(instance, result.run_id)
    assert end["attempt"] == 1


def test_the_command_needs_a_dagster_home_with_a_ray_run_launcher(home: Home) -> None:
    done = _command(home({}))
    assert done.returncode == 1
    assert "configure RayRunLauncher" in done.stderr
