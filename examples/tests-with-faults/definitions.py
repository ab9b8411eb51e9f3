"""A job whose steps and script run on Ray. Nothing in it is for the tests."""

import sys

import dagster as dg
from dagster_ray import PipesRayJobClient, ray_executor

SCRIPT = """
from dagster_pipes import open_dagster_pipes

with open_dagster_pipes() as pipes:
    for epoch in range(3):
        print(f"epoch {epoch}", flush=True)
    pipes.report_asset_materialization(metadata={"loss": 0.25})
"""


@dg.op
def load() -> list[int]:
    return [1, 2, 3]


@dg.op(retry_policy=dg.RetryPolicy(max_retries=2))
def train(rows: list[int]) -> int:
    return sum(rows)


@dg.job(executor_def=ray_executor)
def training() -> None:
    train(load())


@dg.asset
def model(context: dg.AssetExecutionContext, pipes: PipesRayJobClient) -> dg.MaterializeResult:
    """Trains in a script of its own, a Ray job."""
    return pipes.run(
        context=context,
        submit_job_params={"entrypoint": f"{sys.executable} -c '{SCRIPT}'"},
    ).get_materialize_result()


defs = dg.Definitions(
    assets=[model],
    jobs=[training, dg.define_asset_job("modelling", [model])],
    executor=ray_executor,
    resources={"pipes": PipesRayJobClient(address="http://ray-head:8265")},
)
