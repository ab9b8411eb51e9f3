"""`ray_executor` with `isolation: task`: steps as Ray tasks, on a real Ray."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.launcher import LaunchRunContext, ResumeRunContext
from dagster._core.test_utils import create_run_for_test
from executions import Execute, failure
from fault_proxy import FaultProxy
from processes import command_lines, kill, wait_for
from ray_head import RayHead

JOBS = Path(__file__).parent / "code/task_steps.py"


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    marks = tmp_path / "marks"
    marks.mkdir()
    monkeypatch.setenv("MARKS", str(marks))
    return marks


@pytest.fixture(scope="module")
def driver(ray_head: RayHead) -> Iterator[RayHead]:
    """Connects this process, so that the tests share the workers of one Ray job."""
    # Ray reads the variables for its authentication when it is imported.
    import ray

    ray.init(address=ray_head.gcs, log_to_driver=False)
    yield ray_head
    ray.shutdown()


@pytest.fixture
def execute(home, driver: RayHead, marks: Path) -> Iterator[Execute]:
    with ExitStack() as stack:
        yield Execute(JOBS, home({}), stack, address=driver.gcs, isolation="task")


def test_steps_run_in_warm_workers_with_what_dagster_promises(
    execute: Execute, marks: Path, driver: RayHead
) -> None:
    result = execute("story", env_vars=["MARKS"], max_concurrent=1)
    assert result.success
    assert result.output_for_node("gather") == 6
    assert not driver.jobs(result.run_id), "no step is a Ray job"

    # Steps share processes, whose environment is restored after each.
    assert result.output_for_node("flaky") == {
        "COLOUR": "blue",
        "DAGSTER_RUN_JOB_NAME": "story",
        "DAGSTER_RUN_STEP_KEY": "flaky",
        "LEFT_BEHIND": "",
    }
    steps = {"first", "flaky", "spread", "gather", "pid", "again"} | {
        f"double[n_{number}]" for number in range(3)
    }
    assert len({result.output_for_node("pid"), result.output_for_node("again")}) == 1
    # Hooks run in the workers.
    assert {file.name for file in marks.iterdir()} == {
        f"success-{name}"
        for name in ("first", "flaky", "spread", "gather", "pid", "again", "double")
    }
    # Each step has the events of a step worker, once and in order.
    kinds = [
        event.event_type_value
        for event in result.all_events
        if event.step_key == "pid" and event.event_type_value.startswith("STEP_")
    ]
    assert kinds == [
        "STEP_WORKER_STARTING",
        "STEP_WORKER_STARTED",
        "STEP_START",
        "STEP_INPUT",
        "STEP_OUTPUT",
        "STEP_SUCCESS",
    ]
    logged = execute.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.STEP_SUCCESS)
    assert sorted(entry.step_key or "" for entry in logged) == sorted(steps)

    # Standard output is in Dagster's compute logs.
    captured = next(
        event.logs_captured_data
        for event in result.all_events
        if event.event_type == dg.DagsterEventType.LOGS_CAPTURED
        and event.logs_captured_data.step_keys == ["pid"]
    )
    log_key = [result.run_id, "compute_logs", captured.file_key]
    data = execute.instance.compute_log_manager.get_log_data(log_key)
    assert data.stdout == f"the process is {result.output_for_node('pid')}\n".encode()


def test_a_step_that_dies_fails_alone_with_its_reason(execute: Execute, marks: Path) -> None:
    result = execute("failing", env_vars=["MARKS"])
    assert not result.success
    assert result.output_for_node("slow") == 1
    assert result.output_for_node("asks_again") == 1
    # Dagster's retry policy applies to a killed worker.
    assert isinstance(result.output_for_node("dies"), int)
    assert "this op cannot do it" in failure(result, "fails")
    assert "its worker process crashed" in failure(result, "leaves")
    assert "its runtime environment could not be created" in failure(result, "broken_environment")
    assert "num_cpus" in failure(result, "negative")
    failed = {event.step_key for event in result.get_step_failure_events()}
    assert failed == {"fails", "leaves", "broken_environment", "negative"}
    assert (marks / "failure-fails").exists()


def test_concurrency_is_limited_by_the_executor_and_by_what_a_step_reserves(
    execute: Execute, marks: Path
) -> None:
    assert execute("limited", max_concurrent=2, env_vars=["MARKS"]).success
    assert not (marks / "seen-3").exists()
    assert (marks / "seen-2").exists()


def test_a_pool_limits_the_tasks_that_run_at_once(execute: Execute, marks: Path) -> None:
    execute.instance.event_log_storage.set_concurrency_slots("licenses", 1)
    assert execute("pooled", env_vars=["MARKS"]).success
    assert (marks / "seen-1").exists()
    assert not (marks / "seen-2").exists()


def test_a_re_execution_from_failure_repeats_no_step_that_succeeded(
    execute: Execute, marks: Path
) -> None:
    failed = execute("repaired", env_vars=["MARKS"])
    assert "not repaired yet" in failure(failed, "needs_repair")
    (marks / "repaired").touch()
    run = execute.instance.get_run_by_id(failed.run_id)
    assert run is not None
    with dg.execute_job(
        ReconstructableJob.for_file(str(JOBS), "repaired"),
        instance=execute.instance,
        run_config=run.run_config,
        reexecution_options=dg.ReexecutionOptions.from_failure(run.run_id, execute.instance),
    ) as result:
        assert result.success
        # The value of the step that succeeded in the failed run is found.
        assert result.output_for_node("needs_repair") == 21
    assert len((marks / "executions").read_text().splitlines()) == 1


def test_the_tag_of_an_op_decides_where_it_runs(execute: Execute) -> None:
    result = execute("mixed")
    assert result.success
    found = {name: result.output_for_node(name) for name in ("as_task", "as_job", "beside")}
    kinds = {name: kind for name, (kind, _) in found.items()}
    assert kinds == {"as_task": "task", "as_job": "job", "beside": "local"}
    pids = [result.output_for_node(name)[1] for name in ("as_task", "fresh", "gpu_one", "gpu_two")]
    assert len(set(pids)) == 4, "a fresh process and one with a GPU are not shared"


def test_an_interrupt_lets_a_step_clean_up(execute: Execute, marks: Path) -> None:
    def interrupt() -> None:
        wait_for("the step", (marks / "started").exists, 30)
        os.kill(os.getpid(), 15)

    thread = threading.Thread(target=interrupt)
    thread.start()
    began = time.monotonic()
    result = execute("waiting", env_vars=["MARKS"])
    thread.join()
    assert not result.success
    assert time.monotonic() - began < 60
    assert "DagsterExecutionInterruptedError" in failure(result, "cleans_up")
    assert (marks / "cleaned").exists()


def test_a_run_worker_in_a_ray_job_executes_its_steps_in_that_job(
    home, ray_head: RayHead, marks: Path, tmp_path: Path
) -> None:
    instance = home({})
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"execution": {"config": {"isolation": "task"}}}))
    command = f"dagster job execute -f {JOBS} -a limited -c {config}"
    variables = {"DAGSTER_HOME": instance.root_directory, "MARKS": str(marks)}
    job = {"entrypoint": command, "submission_id": "tasks", "runtime_env": {"env_vars": variables}}
    ray_head.submit(job)

    def ended() -> bool:
        return ray_head.jobs()["tasks"]["status"] in ("SUCCEEDED", "FAILED")

    wait_for("the run", ended, 60)
    output = ray_head.request("/api/jobs/tasks/logs")["logs"]
    assert instance.get_runs(), output
    [run] = instance.get_runs()
    assert run.is_success, "\n".join(entry.message for entry in instance.all_logs(run.run_id))
    # The tasks have the job's environment, and no step is a job.
    assert list(marks.glob("seen-*"))
    assert not ray_head.jobs(run.run_id)


def test_a_resumed_run_executes_the_steps_again_that_ran_in_its_killed_worker(
    home, ray_head: RayHead, marks: Path
) -> None:
    config = {"address": ray_head.url, "env_vars": ["MARKS"]}
    launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": config}
    monitoring = {"enabled": True, "max_resume_run_attempts": 1}
    instance = home({"run_launcher": launcher, "run_monitoring": monitoring})
    job = ReconstructableJob.for_file(str(JOBS), "survives")
    run = create_run_for_test(
        instance,
        job_name="survives",
        run_config={"execution": {"config": {"isolation": "task"}}},
        job_code_origin=job.get_python_origin(),
        status=dg.DagsterRunStatus.STARTING,
    )

    def current() -> dg.DagsterRun:
        found = instance.get_run_by_id(run.run_id)
        assert found is not None
        return found

    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    wait_for("the step", (marks / "starts").exists, 90)
    [first] = (marks / "starts").read_text().split()
    for worker, line in command_lines().items():
        if "api execute_run" in line and run.run_id in line:
            kill(worker)
    # Its tasks end with it.
    wait_for("the end of the task", lambda: int(first) not in command_lines(), 60)
    instance.run_launcher.resume_run(
        ResumeRunContext(dagster_run=current(), workspace=None, resume_attempt_number=1)
    )
    wait_for("the second start", lambda: len((marks / "starts").read_text().split()) == 2, 90)
    (marks / "go").touch()
    wait_for("the end of the run", lambda: current().is_finished, 60)
    assert current().is_success
    assert len((marks / "executions").read_text().split()) == 1


@pytest.mark.parametrize(
    "form", ["url", *(pytest.param(form, marks=pytest.mark.nightly) for form in ("gcs", "client"))]
)
def test_a_run_worker_outside_ray_connects_to_its_address(
    home, ray_head: RayHead, marks: Path, tmp_path: Path, form: str
) -> None:
    """A dashboard's URL leads to the Ray on this machine that it belongs to."""
    config = {"address": getattr(ray_head, form), "isolation": "task", "env_vars": ["MARKS"]}
    instance = home({})
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"execution": {"config": config}}))
    executed = subprocess.run(
        [
            *(sys.executable, "-m", "dagster", "job", "execute", "-f", str(JOBS), "-a", "mixed"),
            *("-c", str(file)),
        ],
        env={**os.environ, "DAGSTER_HOME": instance.root_directory},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert executed.returncode == 0, executed.stderr
    [run] = instance.get_runs()
    assert list(ray_head.jobs(run.run_id)) == [f"dagster-step-{run.run_id}-as_job"]
    started = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTED)
    tasks = {entry.step_key for entry in started if "Ray task" in entry.message}
    assert tasks == {"first", "as_task", "fresh", "gpu_one", "gpu_two"}


def test_an_address_that_accepts_only_jobs_is_an_error_outside_ray(
    home, proxy: FaultProxy, marks: Path
) -> None:
    import ray

    ray.shutdown()
    with ExitStack() as stack:
        # No Ray on this machine has the proxy's address.
        result = Execute(JOBS, home({}), stack)("limited", address=proxy.url, isolation="task")
    [ended] = [one for one in result.all_events if one.event_type_value == "PIPELINE_FAILURE"]
    error = ended.job_failure_data.error
    assert error is not None and "isolation: job" in error.message


def test_a_backend_that_cannot_be_asked_once_fails_the_run_with_its_error(
    home, ray_head: RayHead, marks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run does not begin without knowing which of its steps are tasks."""
    from ray.dashboard import utils

    resolve, tries = utils.ray_address_to_api_server_url, []

    def fail_once(address: str) -> str:
        tries.append(address)
        if len(tries) == 1:
            raise ConnectionError("the first request is lost")
        return resolve(address)

    monkeypatch.setattr(utils, "ray_address_to_api_server_url", fail_once)
    with ExitStack() as stack:
        result = Execute(JOBS, home({}), stack)("limited", address=ray_head.gcs, isolation="task")
    [ended] = [one for one in result.all_events if one.event_type_value == "PIPELINE_FAILURE"]
    error = ended.job_failure_data.error
    assert error is not None and "the first request is lost" in error.message
    assert not result.get_step_failure_events()
