"""`ray_executor` with `isolation: task`: steps as Ray tasks, on a real Ray."""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob
from processes import wait_for
from ray_head import RayHead

JOBS = Path(__file__).parent / "code/task_steps.py"


class Execute:
    """Runs a job of task_steps.py in this process. Keyword arguments are the configuration."""

    def __init__(self, instance: dg.DagsterInstance, address: str, stack: ExitStack) -> None:
        self.instance = instance
        self._address = address
        self._stack = stack

    def __call__(self, job: str, **config: object) -> dg.JobExecutionResult:
        settings = {"address": self._address, "isolation": "task", **config}
        execution = dg.execute_job(
            ReconstructableJob.for_file(str(JOBS), job),
            instance=self.instance,
            run_config={"execution": {"config": settings}},
            raise_on_error=False,
        )
        return self._stack.enter_context(execution)


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
        yield Execute(home({}), driver.gcs, stack)


def _error(result: dg.JobExecutionResult, op: str) -> str:
    [event] = [e for e in result.get_step_failure_events() if e.step_key == op]
    assert event.step_failure_data.error is not None
    return event.step_failure_data.error.to_string()


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
    # Dagster's retry policy applies to a killed worker.
    assert isinstance(result.output_for_node("dies"), int)
    assert "this op cannot do it" in _error(result, "fails")
    assert "its worker process crashed" in _error(result, "leaves")
    assert "its runtime environment could not be created" in _error(result, "broken_environment")
    assert "num_cpus" in _error(result, "negative")
    failed = {event.step_key for event in result.get_step_failure_events()}
    assert failed == {"fails", "leaves", "broken_environment", "negative"}
    assert (marks / "failure-fails").exists()


def test_concurrency_is_limited_by_the_executor_and_by_what_a_step_reserves(
    execute: Execute, marks: Path
) -> None:
    assert execute("limited", max_concurrent=2, env_vars=["MARKS"]).success
    assert not (marks / "seen-3").exists()
    assert (marks / "seen-2").exists()


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
    assert "DagsterExecutionInterruptedError" in _error(result, "cleans_up")
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


def test_an_address_that_accepts_jobs_only_is_an_error_outside_ray(
    home, ray_head: RayHead, marks: Path
) -> None:
    import ray

    ray.shutdown()
    with ExitStack() as stack:
        result = Execute(home({}), ray_head.url, stack)("limited")
    [failure] = [one for one in result.all_events if one.event_type_value == "PIPELINE_FAILURE"]
    error = failure.job_failure_data.error
    assert error is not None and "isolation: job" in error.message
