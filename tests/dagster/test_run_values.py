"""The removal of a run's values when the run has succeeded."""

import threading
import time
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import pytest
from dagster._core.execution.api import create_execution_plan
from dagster_ray import RayIOManager, ray_executor
from dagster_ray.io import run_values
from dagster_ray.io.io_manager import _worker_removes_ended


class SlowManager(RayIOManager):
    """Connects to Ray for a long time."""

    needs_connection: bool

    def prepare(self, instance: dg.DagsterInstance) -> bool:
        return self.needs_connection

    def delete_values_of_run(self, run_id: str, instance: dg.DagsterInstance | None = None) -> int:
        if self.needs_connection:
            continues.wait(60)
        removed.append(run_id)
        return 1

    def remove_values_of_ended_runs(self, instance: dg.DagsterInstance) -> int:
        removed.append("ended")
        return 0


removed: list[str] = []
continues = threading.Event()


@dg.op
def makes() -> int:
    return 1


@pytest.mark.parametrize("needs_connection", [True, False])
def test_the_end_of_a_run_does_not_wait_for_a_connection(needs_connection: bool) -> None:
    removed.clear()
    continues.clear()

    @dg.job(resource_defs={"io_manager": SlowManager(needs_connection=needs_connection)})
    def short():
        makes()

    with dg.DagsterInstance.ephemeral() as instance:
        context: Any = SimpleNamespace(
            run_id="r",
            instance=instance,
            run_config={},
            log=SimpleNamespace(debug=print, warning=pytest.fail),
            job=SimpleNamespace(get_definition=lambda: short),
        )
        plan = create_execution_plan(short)
        begin = time.monotonic()
        run_values.remove_values(context, plan)
        assert time.monotonic() - begin < 5
        assert removed == ([] if needs_connection else ["r", "ended"])
        continues.set()
        for thread in threading.enumerate():
            if thread.name == "removal of values":
                assert not thread.daemon
                thread.join(10)
    assert removed == ["r", "ended"]


@pytest.mark.parametrize(
    ("executor", "expected"),
    [
        (ray_executor, True),
        (ray_executor.configured({"max_concurrent": 1}, name="ours"), True),
        (dg.in_process_executor, False),
    ],
)
def test_steps_of_the_ray_executor_leave_values_of_ended_runs_to_the_run_worker(
    executor: dg.ExecutorDefinition, expected: bool
) -> None:
    """Otherwise each process of a step would list all values."""

    @dg.job(executor_def=executor)
    def short():
        makes()

    context = SimpleNamespace(step_context=SimpleNamespace(job_def=short))
    assert _worker_removes_ended(cast(dg.OutputContext, context)) is expected
