"""The executor on a real Ray."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob
from fault_proxy import FaultProxy
from processes import free_port, wait_for
from ray_head import RayHead

JOBS = Path(__file__).parent / "code/steps.py"


class Execute:
    """Runs a job of steps.py, with the executor's fields as keywords."""

    def __init__(self, instance: dg.DagsterInstance, stack: ExitStack) -> None:
        self.instance = instance
        self._stack = stack

    def __call__(self, job: str, address: str, **config: object) -> dg.JobExecutionResult:
        bounds = {
            name: config.pop(name)
            for name in ("max_concurrent", "tag_concurrency_limits")
            if name in config
        }
        settings = {"ray": {"address": address, **config}, **bounds}
        execution = dg.execute_job(
            ReconstructableJob.for_file(str(JOBS), job),
            instance=self.instance,
            run_config={"execution": {"config": settings}},
            raise_on_error=False,
        )
        return self._stack.enter_context(execution)

    def events(self, result: dg.JobExecutionResult, *kinds: dg.DagsterEventType) -> list:
        return list(self.instance.all_logs(result.run_id, of_type=set(kinds)))


@pytest.fixture
def execute(home) -> Iterator[Execute]:
    with ExitStack() as stack:
        yield Execute(home({}), stack)


def _submits(proxy: FaultProxy) -> dict[str, dict]:
    bodies = [json.loads(request.body) for request in proxy.seen("POST", "/api/jobs/")]
    return {body["submission_id"]: body for body in bodies}


def _submit(proxy: FaultProxy, op: str, attempt: int = 0) -> dict:
    ending = f"-{op}" if attempt == 0 else f"-{op}-{attempt}"
    [body] = [body for name, body in _submits(proxy).items() if name.endswith(ending)]
    return body


def _failure(result: dg.JobExecutionResult, op: str) -> str:
    [event] = [e for e in result.get_step_failure_events() if e.step_key == op]
    return event.step_failure_data.error.to_string() if event.step_failure_data.error else ""


def test_a_job_of_many_kinds_of_steps(
    execute: Execute,
    ray_head: RayHead,
    proxy: FaultProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FROM_LAUNCHER", "here")
    result = execute(
        "story",
        proxy.url,
        num_cpus=0.5,
        env_vars=["COLOUR=red", "SHARED=yes"],
        runtime_env={"env_vars": {"SHARED": "no", "MEETING": str(tmp_path)}},
    )
    # Two of its steps end only if they run at the same time.
    assert result.success
    assert result.output_for_node("gather") == 2

    # Each step was a Ray job of its own, which says whose it is.
    jobs = ray_head.jobs(result.run_id)
    steps = {"first", "left", "right", "flaky", "spread", "gather", "double[n_0]", "double[n_1]"}
    assert {job["metadata"]["dagster/op"] for job in jobs.values()} == steps
    assert len(jobs) == len(steps) + 1, "the retried step has two"
    assert all(result.run_id in name for name in jobs)
    assert all(job["metadata"]["dagster/job"] == "story" for job in jobs.values())

    # Dagster shows the way to the job in Ray's dashboard.
    starting = execute.events(result, dg.DagsterEventType.STEP_WORKER_STARTING)
    first, _second = (e.dagster_event for e in starting if e.step_key == "flaky")
    metadata = first.event_specific_data.metadata
    assert metadata["Ray Submission ID"].value in jobs
    assert metadata["Ray Dashboard"].value.startswith(proxy.url)

    # The tag wins over the configuration, field by field, and 0 counts (W3).
    assert _submit(proxy, "first")["entrypoint_num_cpus"] == 0.5
    for attempt in (0, 1):
        flaky = _submit(proxy, "flaky", attempt)
        assert not flaky.get("entrypoint_num_cpus")
        assert flaky["entrypoint_resources"] == {"widget": 1}
    # What one step's tag asks for is not asked for by the steps that follow (W4).
    assert not _submit(proxy, "gather").get("entrypoint_resources")
    assert _submit(proxy, "gather")["entrypoint_num_cpus"] == 0.5

    environment = result.output_for_node("flaky")
    assert environment == {
        "COLOUR": "blue",
        "FROM_LAUNCHER": "here",
        "SHARED": "no",
        "DAGSTER_RUN_JOB_NAME": "story",
        "DAGSTER_RUN_STEP_KEY": "flaky",
    }
    # Neither a version check for each submit (P5), nor a connection for each request (P2).
    assert len(proxy.seen("GET", "/api/version")) <= 1
    assert len(proxy.requests) > 10
    assert proxy.connections <= 5, "at most four steps are submitted at a time"
    # Which arguments a step gets is nobody's business in the dashboard (L17).
    assert "DAGSTER" not in _submit(proxy, "first")["entrypoint"]


def test_a_failing_op_fails_the_run(execute: Execute, ray_head: RayHead) -> None:
    result = execute("failing", ray_head.url)
    assert not result.success
    assert "this op cannot do it" in _failure(result, "fails")
    [job] = ray_head.jobs(result.run_id).values()
    assert job["metadata"]["dagster/op"] == "fails", "what depends on it is not even submitted"


def test_steps_whose_jobs_end_behind_dagsters_back(
    execute: Execute, ray_head: RayHead, proxy: FaultProxy
) -> None:
    """W2, P3: jobs that were stopped, killed or left fail their steps; one request asks for all."""

    def stop_when_it_runs() -> None:
        def running() -> str | None:
            for name, job in {
                job["submission_id"]: job for job in ray_head.request("/api/jobs/")
            }.items():
                if name.endswith("-waits") and job["status"] == "RUNNING":
                    return name
            return None

        ray_head.stop_job(wait_for("the step's job", running, 60))

    stopper = threading.Thread(target=stop_when_it_runs)
    stopper.start()
    # More than one question's own repetitions can hide: the executor itself hears of it.
    with proxy.failing("GET", "/api/jobs/.*", 503, times=6) as fault:
        result = execute("abandoned", proxy.url)
    stopper.join()
    assert not result.success
    assert "stopped from outside" in _failure(result, "waits")
    assert "failed Ray job" in _failure(result, "dies")
    assert "without reporting" in _failure(result, "leaves")
    # The dashboard's own trouble was no step's trouble (W1).
    assert fault.hits == 6
    log = [e.user_message for e in execute.instance.all_logs(result.run_id)]
    assert any("Ray could not be asked about the steps" in message for message in log)
    # One question for all steps, never one for each (P3).
    assert proxy.seen("GET", "/api/jobs/")
    assert not proxy.seen("GET", "/api/jobs/.+")


@pytest.mark.parametrize("what", [503, "lost"])
def test_a_submit_that_goes_wrong_once_is_repeated(
    execute: Execute, ray_head: RayHead, proxy: FaultProxy, what: int | str
) -> None:
    """W18: neither a refusal nor a lost answer fails anything, and no step runs twice."""
    with proxy.failing("POST", "/api/jobs/", what, times=1) as fault:
        result = execute("pair", proxy.url)
    assert result.success
    assert fault.hits == 1

    def succeeded() -> bool:
        # A job ends a moment after its step.
        statuses = [job["status"] for job in ray_head.jobs(result.run_id).values()]
        return statuses == ["SUCCEEDED"] * 2

    wait_for("two jobs that succeed", succeeded, 15)


def test_a_step_with_a_wrong_tag_fails_alone_and_at_once(
    execute: Execute, ray_head: RayHead
) -> None:
    begin = time.monotonic()
    result = execute("misconfigured", ray_head.url)
    assert time.monotonic() - begin < 60
    assert "num_cpus" in _failure(result, "negative")
    assert "dagster-ray/config" in _failure(result, "unreadable")
    assert {event.step_key for event in result.get_step_success_events()} == {"quick"}


def test_max_concurrent_bounds_the_steps(execute: Execute, ray_head: RayHead) -> None:
    """W5: the field exists, and it is obeyed."""
    result = execute("pair", ray_head.url, max_concurrent=1)
    assert result.success
    starting, success = dg.DagsterEventType.STEP_WORKER_STARTING, dg.DagsterEventType.STEP_SUCCESS
    order = [e.dagster_event.event_type for e in execute.events(result, starting, success)]
    assert order == [starting, success, starting, success]


def test_tag_concurrency_limits_bound_the_steps(execute: Execute, ray_head: RayHead) -> None:
    limits = [{"key": "kind", "value": "lonely", "limit": 1}]
    result = execute("lonely", ray_head.url, tag_concurrency_limits=limits)
    assert result.success
    kinds = dg.DagsterEventType
    starts = {e.step_key: e.timestamp for e in execute.events(result, kinds.STEP_START)}
    ends = {e.step_key: e.timestamp for e in execute.events(result, kinds.STEP_SUCCESS)}
    first, second = sorted(starts, key=starts.__getitem__)
    assert ends[first] <= starts[second]


@pytest.mark.parametrize("inherits", [None, True, False])
def test_the_launchers_address_is_taken_over_where_nothing_else_is_said(
    home, ray_head: RayHead, proxy: FaultProxy, inherits: bool | None
) -> None:
    launcher = {
        "module": "dagster_ray",
        "class": "RayRunLauncher",
        "config": {"address": proxy.url},
    }
    field = "inherit_job_submission_client_from_ray_run_launcher"
    own = ray_head.url if inherits is False else f"http://127.0.0.1:{free_port()}"
    config = {"ray": {"address": own} | ({} if inherits is None else {field: inherits})}
    with dg.execute_job(
        ReconstructableJob.for_file(str(JOBS), "single"),
        instance=home({"run_launcher": launcher}),
        run_config={"execution": {"config": config}},
        raise_on_error=False,
    ) as result:
        assert result.success
    # The launcher's way leads through the proxy.
    assert bool(proxy.requests) is (inherits is not False)
    assert len(ray_head.jobs(result.run_id)) == 1


def test_ray_that_stays_away_fails_the_step(execute: Execute) -> None:
    """The reason is in the step's failure, and the run ends."""
    nobody = f"http://127.0.0.1:{free_port()}"
    result = execute("single", nobody)
    assert not result.success
    assert nobody in _failure(result, "quick")
