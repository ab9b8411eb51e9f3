"""The station's readings, and what is made of them on Ray."""

from typing import Any

import dagster as dg
from dagster_ray import PipesRayJobClient, RayResource
from dagster_ray.core.pipes import SubmitJobParams, generate_job_id
from dagster_ray.kuberay import PipesKubeRayJobClient
from dagster_ray.types import OpOrAssetExecutionContext
from dagster_ray.utils import get_current_job_id, resolve_env_vars_list

from .settings import HEAVY_STEP


def parameters(script: str, context: OpOrAssetExecutionContext) -> SubmitJobParams:
    """Returns the parameters of the Ray job of a script."""
    return {
        "entrypoint": script,
        "submission_id": generate_job_id(),
        "runtime_env": {"env_vars": resolve_env_vars_list(["STATION=north", "TZ"])},
        "metadata": {"station/run": context.run_id},
        "entrypoint_num_cpus": 1,
    }


@dg.asset(op_tags=HEAVY_STEP)
def readings() -> list[int]:
    """The readings of an hour."""
    return [1, 2, 3]


@dg.asset
def warmest(readings: list[int]) -> int:
    """The highest reading."""
    return max(readings)


@dg.asset
def squares(ray_cluster: RayResource) -> int:
    """A sum that Ray's workers compute."""
    import ray

    @ray.remote
    def square(number: int) -> int:
        return number * number

    assert ray_cluster.connected and get_current_job_id() == ray_cluster.runtime_job_id
    return sum(ray.get([square.remote(number) for number in range(4)]))


class Report(dg.Config):
    """Which script reports."""

    script: str
    rows: int = 3


@dg.asset
def reported(
    context: dg.AssetExecutionContext, config: Report, pipes: PipesRayJobClient
) -> dg.MaterializeResult[Any]:
    """Rows that a script on Ray has counted."""
    return pipes.run(
        context=context,
        submit_job_params=parameters(config.script, context),
        extras={"rows": config.rows},
    ).get_materialize_result()


@dg.asset
def forecast(context: dg.AssetExecutionContext, config: Report, kube: PipesKubeRayJobClient) -> Any:
    """A forecast of a script on its own cluster."""
    return kube.run(
        context=context,
        submit_job_params={"entrypoint": config.script},
        extras={"rows": config.rows},
    ).get_materialize_result()
