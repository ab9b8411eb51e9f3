"""Functions under the module paths of `dagster-ray` from PyPI."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import dagster as dg
import pytest
from dagster_ray._base.utils import get_dagster_tags
from dagster_ray.core.pipes import generate_job_id, tail_logs
from dagster_ray.core.run_launcher import get_job_submission_id_from_run_id
from dagster_ray.testing import SimulatedRay
from dagster_ray.utils import get_dagster_run, resolve_env_vars_list


def test_the_submission_id_of_a_run_is_that_of_its_ray_job(simulated_ray: SimulatedRay) -> None:
    run_id = "4b1c6a50-8f10-4b62-9b5e-0e2f5f3f2a11"
    first = get_job_submission_id_from_run_id(run_id)
    assert run_id in first
    assert get_job_submission_id_from_run_id(run_id, 0) == first
    again = get_job_submission_id_from_run_id(run_id, resume_attempt_number=1)
    assert again != first and again.startswith(first)


def test_the_submission_id_of_a_run_needs_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://nowhere.invalid:10001")
    assert get_job_submission_id_from_run_id("r").endswith("-r")


def test_a_generated_job_id_does_not_depend_on_a_seed() -> None:
    ids: set[str] = set()
    for _ in range(2):
        random.seed(0)
        ids.add(generate_job_id())
    assert len(ids) == 2
    assert all(one.startswith("pipes-") and len(one) == 16 for one in ids)


def test_the_tail_of_a_job_ends_with_it_and_raises_its_error() -> None:
    closed: list[bool] = []

    async def output(fails: bool) -> AsyncIterator[str]:
        try:
            yield "one\n"
            await asyncio.sleep(0)
            yield "two\n"
            if fails:
                raise ConnectionError("reset")
        finally:
            closed.append(True)

    assert list(tail_logs(output(False))) == ["one\n", "two\n"]
    lines = tail_logs(output(True))
    assert [next(lines), next(lines)] == ["one\n", "two\n"]
    with pytest.raises(ConnectionError, match="reset"):
        next(lines)
    unread = tail_logs(output(False))
    assert next(unread) == "one\n"
    unread.close()  # type: ignore[attr-defined]
    assert len(closed) == 3


def test_a_list_of_variables_takes_values_from_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "yes")
    monkeypatch.delenv("MISSING", raising=False)
    assert resolve_env_vars_list(["A=b=c", "HERE", "MISSING"]) == {"A": "b=c", "HERE": "yes"}
    assert resolve_env_vars_list(None) == {}


def test_the_tags_of_a_context_name_its_run_deployment_and_resource() -> None:
    seen: list[Any] = []

    class Tagged(dg.ConfigurableResource):
        def setup_for_execution(self, context: dg.InitResourceContext) -> None:
            seen.append((get_dagster_run(context).run_id, get_dagster_tags(context)))

    @dg.op
    def uses(context: dg.OpExecutionContext, tagged: Tagged) -> None:
        seen.append((get_dagster_run(context).run_id, get_dagster_tags(context, {"a": "b"})))

    @dg.job(resource_defs={"tagged": Tagged()})
    def job() -> None:
        uses()

    run_id = job.execute_in_process().run_id
    run = {"dagster/run-id": run_id, "dagster/job": "job", "dagster/deployment": "dev"}
    [(_, of_resource), (_, of_step)] = seen
    assert of_resource == {**run, "dagster/resource-key": "tagged"}
    assert of_step == {**run, "a": "b"}
    assert [found for found, _ in seen] == [run_id, run_id]
    with pytest.raises(RuntimeError, match="has no Dagster run"):
        get_dagster_run(dg.build_init_resource_context())
