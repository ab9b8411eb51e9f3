"""The public names and the extension points of the Pipes clients, on the simulated backend."""

from typing import Any

import dagster as dg
import pytest
from dagster_ray import PipesRayJobClient, PipesRayJobMessageReader
from dagster_ray.core.pipes import (
    PIPES_LAUNCHED_EXTRAS_RAY_ADDRESS_KEY,
    PIPES_LAUNCHED_EXTRAS_RAY_JOB_ID_KEY,
    SubmitJobParams,
)
from dagster_ray.kuberay import PipesKubeRayJobClient
from dagster_ray.testing import SimulatedRay
from dagster_ray.types import AnyDagsterContext, OpOrAssetExecutionContext


class Listens(PipesRayJobMessageReader):
    """Records the payload of each launch."""

    def __init__(self) -> None:
        super().__init__()
        self.launched: list[Any] = []

    def on_launched(self, launched_payload: Any) -> None:
        self.launched.append(launched_payload["extras"])


def _run(client: Any, **parameters: Any) -> dg.ExecuteInProcessResult:
    @dg.op
    def scripted(context: dg.OpExecutionContext) -> None:
        client.run(context=context, **parameters)

    @dg.job
    def scripts() -> None:
        scripted()

    return scripts.execute_in_process()


def test_a_message_reader_gets_the_job_id_and_address(simulated_ray: SimulatedRay) -> None:
    reader = Listens()
    params: SubmitJobParams = {
        "entrypoint": "true",
        "submission_id": "mine",
        "entrypoint_memory": 1000,
        "entrypoint_label_selector": {"zone": "a"},
        "metadata": {"team": "x"},
    }
    client = PipesRayJobClient(message_reader=reader, metadata={"team": "y", "more": "z"})
    result = _run(client, submit_job_params=params)
    assert reader.launched == [
        {
            PIPES_LAUNCHED_EXTRAS_RAY_JOB_ID_KEY: "mine",
            PIPES_LAUNCHED_EXTRAS_RAY_ADDRESS_KEY: client.backend.url,
        }
    ]
    assert (PIPES_LAUNCHED_EXTRAS_RAY_JOB_ID_KEY, PIPES_LAUNCHED_EXTRAS_RAY_ADDRESS_KEY) == (
        "ray_job_id",
        "ray_address",
    )
    [job] = simulated_ray.jobs
    assert job.submission_id == "mine"
    # The client's metadata overrides that of the parameters; the run's tags are added.
    assert (job.metadata["team"], job.metadata["more"]) == ("y", "z")
    assert job.metadata["dagster/run-id"] == result.run_id
    assert job.metadata["dagster/job"] == "scripts"


def test_a_message_reader_gets_the_id_of_a_ray_job_on_kuberay(simulated_ray: SimulatedRay) -> None:
    reader = Listens()
    client = PipesKubeRayJobClient(message_reader=reader)
    _run(client, ray_job={"spec": {"entrypoint": "true"}})
    [job] = simulated_ray.jobs
    assert reader.launched == [{"ray_job_id": job.submission_id}]
    assert job.metadata["dagster/deployment"] == "dev"


@pytest.mark.parametrize("kind", [PipesRayJobClient, PipesKubeRayJobClient])
def test_a_subclass_can_add_tags_to_each_job(simulated_ray: SimulatedRay, kind: Any) -> None:
    def tagged(self: Any, context: OpOrAssetExecutionContext) -> dict[str, str]:
        return {**super(client_type, self).get_dagster_tags(context), "cost-center": "7"}

    client_type = type("Tagged", (kind,), {"get_dagster_tags": tagged})
    parameters = (
        {"submit_job_params": {"entrypoint": "true"}}
        if kind is PipesRayJobClient
        else {"ray_job": {"spec": {"entrypoint": "true"}}}
    )
    result = _run(client_type(), **parameters)
    [job] = simulated_ray.jobs
    assert job.metadata["cost-center"] == "7"
    assert job.metadata["dagster/run-id"] == result.run_id


def test_a_script_without_messages_gives_a_warning_with_the_likely_reason(
    simulated_ray: SimulatedRay, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = PipesRayJobMessageReader()
    assert "open_dagster_pipes" in reader.no_messages_debug_text()
    # The script writes its messages to standard output, which is the output of the Ray job.
    with reader.read_messages(None) as params:  # type: ignore[arg-type]
        assert params == {"stdio": "stdout"}
    assert _run(PipesRayJobClient(), submit_job_params={"entrypoint": "true"}).success
    assert "is dagster-pipes installed there?" in capsys.readouterr().err


def test_context_types_are_unions_of_dagsters_contexts() -> None:
    from typing import get_args

    steps = {dg.OpExecutionContext, dg.AssetExecutionContext}
    assert set(get_args(OpOrAssetExecutionContext)) == steps
    assert set(get_args(AnyDagsterContext)) == {*steps, dg.InitResourceContext}
