"""A run and its steps as Ray jobs on an existing cluster. One step needs more than the others."""

import dagster as dg
from dagster_ray import ray_executor


@dg.op
def numbers() -> list[int]:
    return [3, 1, 2]


@dg.op(tags={"dagster-ray/config": {"num_cpus": 1, "runtime_env": {"env_vars": {"LEVEL": "high"}}}})
def sort(context: dg.OpExecutionContext, numbers: list[int]) -> list[int]:
    """Sorts. Its tag reserves a CPU and sets a variable, for this step only."""
    import os

    context.log.info(f"sorted on the level {os.environ['LEVEL']}: {sorted(numbers)}")
    return sorted(numbers)


@dg.job(executor_def=ray_executor.configured({"num_cpus": 0.1}))
def sorting() -> None:
    sort(numbers())


defs = dg.Definitions(jobs=[sorting])
