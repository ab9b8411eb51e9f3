"""`ray_function`: the body of a function on Ray. On the simulated backend, and on a real Ray."""

import contextvars
import sys
import threading
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster_ray import PipesRayJobClient, ray_function
from dagster_ray.errors import (
    InvalidConfigError,
    ScriptFailedError,
    SerializationError,
    UnsupportedError,
)
from dagster_ray.functions.call import packed
from dagster_ray.testing import SimulatedRay
from example_commands import run_example
from function_code import Account, Overdrawn, model, sums, withdraw
from ray_head import RayHead


def _outputs(function: Any, **inputs: Any) -> dg.ExecuteInProcessResult:
    @dg.op(name="calls")
    def op(context: dg.OpExecutionContext) -> Any:
        return function(**inputs)

    @dg.job
    def job() -> None:
        op()

    return job.execute_in_process()


def _error(result: dg.ExecuteInProcessResult) -> Any:
    [event] = result.get_step_failure_events()
    error = event.step_failure_data.error
    assert error is not None
    return error


def _failing(function: Any, *args: Any, raises: type[BaseException], **kwargs: Any) -> Any:
    with pytest.raises(raises) as raised:
        _outputs(lambda: function(*args, **kwargs))
    return raised.value


@pytest.mark.usefixtures("simulated_ray")
class TestSimulated:
    def test_arguments_results_logs_and_metadata_travel(
        self, simulated_ray: SimulatedRay, tmp_path: Path
    ) -> None:
        @dg.asset
        def rows() -> list[int]:
            return [1, 2, 3]

        with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
            result = dg.materialize([rows, model], instance=instance, partition_key="a")
            logged = [entry.user_message for entry in instance.all_logs(result.run_id)]
        assert result.output_for_node("model") == {"total": 6, "partition": "a", "asset": "model"}
        [event] = result.asset_materializations_for_node("model")
        assert event.metadata["rows"].value == 3
        [job] = simulated_ray.jobs
        assert event.metadata["Ray Job ID"].value == job.submission_id
        assert "adding 3 numbers" in logged
        assert job.metadata["dagster/run-id"] == result.run_id

    def test_an_exception_is_raised_again_with_its_traceback_on_ray(self) -> None:
        raised = _failing(withdraw, Account(5), 7, raises=Overdrawn)
        # The class is the same one, although its module was sent as code.
        assert raised.missing == 2
        assert "in withdraw" in str(raised.__cause__) and "Overdrawn" in str(raised.__cause__)
        assert "on_ray.py" not in str(raised.__cause__)

    def test_a_returned_object_has_the_class_of_this_process(self) -> None:
        result = _outputs(withdraw, account=Account(5), amount=2)
        left = result.output_for_node("calls")
        assert type(left) is Account and left.money == 3

    def test_dagsters_exceptions_keep_their_meaning(self) -> None:
        @ray_function()
        def fails() -> None:
            raise dg.Failure("no rows", metadata={"rows": 0}, allow_retries=False)

        raised = _failing(fails, raises=dg.Failure)
        assert raised.metadata["rows"].value == 0 and raised.allow_retries is False

    def test_what_cannot_travel_is_named(self) -> None:
        @ray_function()
        def lock() -> Any:
            return threading.Lock()

        assert "result of type lock" in str(_failing(lock, raises=TypeError))
        raised = _failing(withdraw, threading.Lock(), 1, raises=SerializationError)
        assert "argument 0 of type lock" in str(raised)

        @ray_function()
        def exits() -> None:
            sys.exit(3)

        raised = _failing(exits, raises=ScriptFailedError)
        assert "SystemExit: 3" in str(raised)

        class TwoArguments(Exception):
            def __init__(self, one: str, two: str) -> None:
                super().__init__(one + two)

        @ray_function()
        def raises() -> None:
            raise TwoArguments("cannot be ", "unpickled")

        raised = _failing(raises, raises=ScriptFailedError)
        assert "TwoArguments: cannot be unpickled" in str(raised)
        assert "in raises" in str(raised.__cause__)

    def test_a_resource_can_have_the_client(self, simulated_ray: SimulatedRay) -> None:
        @ray_function(resource_key="scripts")
        def two() -> int:
            return 2

        @dg.asset(required_resource_keys={"scripts"})
        def number() -> int:
            return two()

        client = PipesRayJobClient(metadata={"team": "x"})
        result = dg.materialize([number], resources={"scripts": client})
        assert result.output_for_node("number") == 2
        [job] = simulated_ray.jobs
        assert job.metadata["team"] == "x"

    def test_a_process_that_dies_is_reported_with_the_reason_of_ray(
        self, simulated_ray: SimulatedRay
    ) -> None:
        simulated_ray.out_of_memory()
        raised = _failing(withdraw, Account(1), 1, raises=ScriptFailedError)
        assert raised.state == "failed" and "exit code -9" in str(raised)

    def test_threads_of_a_step_call_functions_at_once(self, simulated_ray: SimulatedRay) -> None:
        def in_threads() -> list[int]:
            found: list[int] = []

            def one(number: int) -> None:
                found.append(sums([number, 1]))

            threads = [
                threading.Thread(target=contextvars.copy_context().run, args=(one, number))
                for number in range(2)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return sorted(found)

        assert _outputs(in_threads).output_for_node("calls") == [1, 2]
        assert len(simulated_ray.jobs) == 2

    def test_on_kuberay_the_function_travels_in_variables(
        self, simulated_ray: SimulatedRay
    ) -> None:
        @ray_function(backend="kuberay", runtime_env={"env_vars": {"LEVEL": "3"}})
        def level(factor: int) -> int:
            import os

            return factor * int(os.environ["LEVEL"])

        assert _outputs(level, factor=2).output_for_node("calls") == 6
        [job] = simulated_ray.jobs
        assert job.metadata["dagster/deployment"] == "dev"

    def test_an_async_function_is_awaited_on_ray(self) -> None:
        @ray_function()
        async def later() -> str:
            return "done"

        assert _outputs(later).output_for_node("calls") == "done"


def test_outside_a_step_it_is_an_ordinary_function() -> None:
    assert sums([1, 2]) == 3
    context = dg.build_asset_context(partition_key="a")
    alone_result: Any = model(context, [4])
    assert alone_result["total"] == 4
    errors: list[Exception] = []

    def alone() -> None:
        try:
            sums([1])
        except UnsupportedError as error:
            errors.append(error)

    thread = threading.Thread(target=alone)
    thread.start()
    thread.join()
    assert "copy_context" in str(errors[0])


def test_mistakes_are_reported_where_the_function_is_defined() -> None:
    with pytest.raises(InvalidConfigError, match="num_cpus"):
        ray_function(num_cpus="two")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="num_cpu"):
        ray_function(num_cpu=2)  # type: ignore[call-arg]
    with pytest.raises(UnsupportedError, match="generator"):

        @ray_function()
        def rows() -> Any:
            yield 1

    with pytest.raises(UnsupportedError, match=r"below @dg\.asset"):
        ray_function()(model)  # type: ignore[arg-type]


def test_a_rayjob_carries_small_arguments_only() -> None:
    class Context:
        op_config = None

        def get_step_execution_context(self) -> Any:
            return type("Step", (), {"step": type("One", (), {"key": "s"})})

    context: Any = Context()
    function: Any = sums
    small = packed(function.__wrapped__, [[1, 2]], {}, context).variables()
    assert sum(map(len, small.values())) < 80_000
    noise = [str(hash(number)) * 3 for number in range(40_000)]
    with pytest.raises(InvalidConfigError, match="more than the"):
        packed(function.__wrapped__, [noise], {}, context).variables()


def test_a_function_runs_on_a_real_ray_and_reserves_resources(
    ray_head: RayHead, tmp_path: Path
) -> None:
    @ray_function(address=ray_head.url, num_cpus=1, resources={"widget": 1})
    def where(text: str) -> tuple[str, str]:
        import ray

        ray.init(log_to_driver=False)
        return text, ray.get_runtime_context().get_node_id()

    # 3 MB: more than an environment variable can have.
    text = "x" * 3_000_000
    result = _outputs(where, text=text)
    found, node = result.output_for_node("calls")
    assert found == text and node
    [job] = ray_head.jobs(result.run_id).values()
    assert job["status"] == "SUCCEEDED" and "dagster_ray_function" in job["entrypoint"]


@pytest.mark.timeout(300)
def test_the_commands_of_the_example(ray_head: RayHead, tmp_path: Path) -> None:
    run_example("ray-functions", tmp_path, {"RAY_ADDRESS": ray_head.url})
    commands = "\n".join(job["entrypoint"] for job in ray_head.jobs().values())
    assert "python histogram.py" in commands and "python -m dagster_ray_function" in commands


def test_a_step_that_is_interrupted_stops_its_function(
    ray_head: RayHead, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import _thread

    begun = tmp_path / "begun"

    @ray_function(address=ray_head.url)
    def endless(path: str) -> None:
        import time

        Path(path).touch()
        time.sleep(600)

    def interrupt() -> None:
        from processes import wait_for

        wait_for("the function", begun.exists, 60)
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises((KeyboardInterrupt, dg.DagsterExecutionInterruptedError)):
        _outputs(endless, path=str(begun))
    thread.join()
    states = {
        job["status"]
        for job in ray_head.jobs().values()
        if "dagster_ray_function" in job["entrypoint"]
    }
    assert "RUNNING" not in states and "STOPPED" in states
