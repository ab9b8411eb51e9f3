"""`ray_executor` on a real Ray."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster_ray.errors import InvalidConfigError
from executions import Execute, failure
from fault_proxy import Fault, FaultProxy
from processes import free_port, wait_for
from ray_head import RayHead

JOBS = Path(__file__).parent / "code/steps.py"


@pytest.fixture
def execute(home) -> Iterator[Execute]:
    with ExitStack() as stack:
        yield Execute(JOBS, home({}), stack)


def _submits(proxy: FaultProxy) -> dict[str, dict]:
    bodies = [json.loads(request.body) for request in proxy.recorded("POST", "/api/jobs/")]
    return {body["submission_id"]: body for body in bodies}


def _submit(proxy: FaultProxy, op: str, attempt: int = 0) -> dict:
    ending = f"-{op}" if attempt == 0 else f"-{op}-{attempt}"
    [body] = [body for name, body in _submits(proxy).items() if name.endswith(ending)]
    return body


def test_steps_run_as_ray_jobs_with_merged_options_and_environment(
    execute: Execute,
    ray_head: RayHead,
    proxy: FaultProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FROM_LAUNCHER", "here")
    result = execute(
        "story",
        address=proxy.url,
        num_cpus=0.5,
        env_vars=["COLOUR=red", "SHARED=yes"],
        runtime_env={"env_vars": {"SHARED": "no", "MEETING": str(tmp_path)}},
        # The test looks at the jobs after the run.
        backend_config={"delete_ended_jobs": False},
    )
    # The steps `left` and `right` end only if they run at the same time.
    assert result.success
    assert result.output_for_node("gather") == 2

    # Each step is a separate Ray job, whose metadata names the op, the job and the run.
    jobs = ray_head.jobs(result.run_id)
    steps = {"first", "left", "right", "flaky", "spread", "gather", "double[n_0]", "double[n_1]"}
    assert {job["metadata"]["dagster/op"] for job in jobs.values()} == steps
    assert len(jobs) == len(steps) + 1, "the retried step has two"
    assert all(result.run_id in name for name in jobs)
    assert all(job["metadata"]["dagster/job"] == "story" for job in jobs.values())

    # The event metadata links to the job in Ray's dashboard.
    starting = execute.events(result, dg.DagsterEventType.STEP_WORKER_STARTING)
    first, _second = (e.dagster_event for e in starting if e.step_key == "flaky")
    metadata = first.event_specific_data.metadata
    assert metadata["Ray Submission ID"].value in jobs
    assert metadata["Ray Dashboard"].value.startswith(proxy.url)

    # The tag overrides the configuration field by field, also with 0.
    assert _submit(proxy, "first")["entrypoint_num_cpus"] == 0.5
    for attempt in (0, 1):
        flaky = _submit(proxy, "flaky", attempt)
        assert not flaky.get("entrypoint_num_cpus")
        assert flaky["entrypoint_resources"] == {"widget": 1}
    # The tag of one step does not affect the steps that follow.
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
    # There is no version check for each submission and no connection for each request.
    assert len(proxy.recorded("GET", "/api/version")) <= 1
    assert len(proxy.requests) > 10
    # At most four steps are submitted at a time, and at most eight jobs are read.
    assert proxy.connections <= 12
    # The dashboard shows the entrypoint, so it must not contain the step's arguments.
    assert "DAGSTER" not in _submit(proxy, "first")["entrypoint"]


@pytest.mark.parametrize("isolation", ["job", "task"])
def test_a_failing_op_fails_the_run_and_skips_dependent_steps(
    execute: Execute, ray_head: RayHead, isolation: str
) -> None:
    result = execute("failing", address=ray_head.url, isolation=isolation)
    assert not result.success
    assert "this op cannot do it" in failure(result, "fails")
    starting = execute.events(result, dg.DagsterEventType.STEP_WORKER_STARTING)
    assert [event.step_key for event in starting] == ["fails"]
    jobs = [job["metadata"]["dagster/op"] for job in ray_head.jobs(result.run_id).values()]
    assert jobs == (["fails"] if isolation == "job" else [])


def test_steps_fail_when_their_jobs_are_stopped_killed_or_exit_silently(
    execute: Execute, ray_head: RayHead, proxy: FaultProxy
) -> None:
    """Stopped, killed and exited jobs fail their steps. One request checks all steps."""

    def stop_when_it_runs() -> None:
        def running() -> str | None:
            for name, job in ray_head.jobs().items():
                if name.endswith("-waits") and job["status"] == "RUNNING":
                    return name
            return None

        ray_head.stop_job(wait_for("the step's job", running, 60))

    stopper = threading.Thread(target=stop_when_it_runs)
    stopper.start()
    with proxy.inject("GET", "/api/jobs/.*", 503, times=2) as fault:
        result = execute("abandoned", address=proxy.url)
    stopper.join()
    assert not result.success
    assert "stopped externally" in failure(result, "waits")
    assert "failed Ray job" in failure(result, "dies")
    assert "without reporting" in failure(result, "leaves")
    # The failed checks were logged and failed no step.
    assert fault.hits == 2, "a check sends one request"
    log = [e.user_message for e in execute.instance.all_logs(result.run_id)]
    assert any("Ray's jobs cannot be checked" in message for message in log)
    # Ray's list costs more than a few jobs.
    assert proxy.recorded("GET", "/api/jobs/.+")


@pytest.mark.parametrize("what", [503, "lost"])
def test_a_submission_that_fails_once_is_retried_and_no_step_runs_twice(
    execute: Execute, ray_head: RayHead, proxy: FaultProxy, what: int | str
) -> None:
    """Neither an error status nor a lost response fails the run, and no step runs twice."""
    with proxy.inject("POST", "/api/jobs/", what, times=1) as fault:
        result = execute("pair", address=proxy.url)
    assert result.success
    assert fault.hits == 1

    def succeeded() -> bool:
        # A Ray job ends shortly after its step.
        statuses = [job["status"] for job in ray_head.jobs(result.run_id).values()]
        return statuses == ["SUCCEEDED"] * 2

    wait_for("two jobs that succeed", succeeded)


@pytest.mark.parametrize("isolation", [pytest.param("job", marks=pytest.mark.nightly), "task"])
def test_a_step_with_an_invalid_tag_fails_at_once_and_the_others_run(
    execute: Execute, ray_head: RayHead, isolation: str
) -> None:
    begin = time.monotonic()
    result = execute("misconfigured", address=ray_head.url, isolation=isolation)
    assert time.monotonic() - begin < 60
    assert "num_cpus" in failure(result, "negative")
    assert "dagster-ray/config" in failure(result, "unreadable")
    assert {event.step_key for event in result.get_step_success_events()} == {"quick"}


@pytest.mark.parametrize("isolation", [pytest.param("job", marks=pytest.mark.nightly), "task"])
def test_max_concurrent_limits_parallel_steps(
    execute: Execute, ray_head: RayHead, isolation: str
) -> None:
    result = execute("pair", address=ray_head.url, max_concurrent=1, isolation=isolation)
    assert result.success
    starting, success = dg.DagsterEventType.STEP_WORKER_STARTING, dg.DagsterEventType.STEP_SUCCESS
    order = [e.dagster_event.event_type for e in execute.events(result, starting, success)]
    assert order == [starting, success, starting, success]


@pytest.mark.parametrize("isolation", [pytest.param("job", marks=pytest.mark.nightly), "task"])
def test_tag_concurrency_limits_restrict_parallel_steps(
    execute: Execute, ray_head: RayHead, isolation: str
) -> None:
    limits = [{"key": "kind", "value": "lonely", "limit": 1}]
    result = execute(
        "lonely", address=ray_head.url, tag_concurrency_limits=limits, isolation=isolation
    )
    assert result.success
    kinds = dg.DagsterEventType
    starts = {e.step_key: e.timestamp for e in execute.events(result, kinds.STEP_START)}
    ends = {e.step_key: e.timestamp for e in execute.events(result, kinds.STEP_SUCCESS)}
    first, second = sorted(starts, key=starts.__getitem__)
    assert ends[first] <= starts[second]


@pytest.mark.parametrize("inherits", [None, pytest.param(True, marks=pytest.mark.nightly), False])
def test_the_launchers_address_is_inherited_by_default(
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
    # Only the launcher's address leads to the proxy.
    assert bool(proxy.requests) is (inherits is not False)
    assert len(ray_head.jobs(result.run_id)) == 1


def test_settings_of_an_inherited_backend_are_refused(home) -> None:
    """They would have no effect, because the backend is the launcher's."""
    launcher = {"module": "dagster_ray", "class": "RayRunLauncher"}
    own = {"backend_config": {"delete_ended_jobs": False}, "kube_context": "other"}
    with pytest.raises(
        InvalidConfigError, match=r"^backend_config, kube_context: .* launcher"
    ) as raised:
        dg.execute_job(
            ReconstructableJob.for_file(str(JOBS), "single"),
            instance=home({"run_launcher": launcher}),
            run_config={"execution": {"config": own}},
        )
    assert [field["path"] for field in raised.value.fields or []] == list(own)


def test_a_step_fails_with_the_address_when_ray_is_unreachable(execute: Execute) -> None:
    """The step's failure contains the reason, and the run ends."""
    closed = f"http://127.0.0.1:{free_port()}"
    result = execute("single", address=closed, backend_config={"patience": {"request_seconds": 1}})
    assert not result.success
    assert closed in failure(result, "quick")


class Trouble:
    """Faults from a moment of a run until the failure of its step."""

    def __init__(self, execute: Execute, proxy: FaultProxy, faults: list[Fault]) -> None:
        self._execute = execute
        self._proxy = proxy
        self._faults = faults

    def begin(self) -> None:
        self._proxy.faults += self._faults

    def run(self, job: str, begin: Callable[[], object], **config: object):
        def trouble() -> None:
            begin()
            wait_for("the failure of the step", self._has_failed, 90)
            self._proxy.faults.clear()

        thread = threading.Thread(target=trouble)
        thread.start()
        result = self._execute(job, address=self._proxy.url, **config)
        thread.join()
        assert not result.success
        return result

    def _has_failed(self) -> bool:
        instance = self._execute.instance
        failure = dg.DagsterEventType.STEP_FAILURE
        return any(instance.all_logs(run.run_id, of_type=failure) for run in instance.get_runs())


def test_a_step_that_was_given_up_is_stopped_when_ray_answers_again(
    execute: Execute, ray_head: RayHead, proxy: FaultProxy
) -> None:
    trouble = Trouble(execute, proxy, [Fault("GET", ".*", 503), Fault("POST", ".*", 503)])

    def begin_when_it_runs() -> None:
        def runs() -> bool:
            jobs = [ray_head.jobs(run.run_id) for run in execute.instance.get_runs()]
            return any(job["status"] == "RUNNING" for found in jobs for job in found.values())

        wait_for("the step's job", runs, 60)
        trouble.begin()

    result = trouble.run("waiting", begin_when_it_runs, unreachable_timeout=2)
    assert "could not be checked" in failure(result, "waits")
    [job] = ray_head.jobs(result.run_id).values()
    assert job["status"] == "STOPPED"


@pytest.mark.nightly
def test_a_step_whose_submission_was_lost_is_stopped_when_ray_answers_again(
    execute: Execute, ray_head: RayHead, proxy: FaultProxy
) -> None:
    """The first attempt to stop it fails, too."""
    lost = Fault("POST", "/api/jobs/", "lost")
    away = [Fault("GET", ".*", 503), Fault("POST", ".*/stop", 503)]
    trouble = Trouble(execute, proxy, [lost, *away])
    patience = {"patience": {"request_seconds": 2}}
    result = trouble.run("waiting", trouble.begin, backend_config=patience)
    assert "was not submitted" in failure(result, "waits")
    assert lost.hits
    [job] = ray_head.jobs(result.run_id).values()
    assert job["status"] == "STOPPED"
