"""Jobs with a fan-out of steps, which are Ray jobs or Ray tasks."""

import time
from collections.abc import Iterator

import dagster as dg
from dagster_ray import ray_executor

# Steps write to Dagster's database themselves.
PASSWORDS = ["DAGSTER_RAY_TEST_PG_PASSWORD"]


@dg.op(config_schema={"count": int}, out=dg.DynamicOut(int))
def numbers(context: dg.OpExecutionContext) -> Iterator[dg.DynamicOutput[int]]:
    for number in range(context.op_config["count"]):
        yield dg.DynamicOutput(number, str(number))


@dg.op
def square(number: int) -> int:
    return number * number


@dg.op
def total(context: dg.OpExecutionContext, squares: list[int]) -> None:
    context.log.info(f"the total is {sum(squares)}")


@dg.op
def waits() -> None:
    time.sleep(600)


@dg.job(
    executor_def=ray_executor.configured(
        {"isolation": "job", "max_concurrent": 4, "env_vars": PASSWORDS}
    )
)
def as_jobs() -> None:
    total(numbers().map(square).collect())


@dg.job(executor_def=ray_executor.configured({"isolation": "task", "env_vars": PASSWORDS}))
def as_tasks() -> None:
    total(numbers().map(square).collect())


@dg.job(executor_def=ray_executor.configured({"env_vars": PASSWORDS}))
def endless() -> None:
    waits()


defs = dg.Definitions(jobs=[as_jobs, as_tasks, endless])
