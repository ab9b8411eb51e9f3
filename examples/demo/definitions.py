"""A Dagster job that counts primes. Its run and its steps are Ray jobs.

The ops contain nothing about Ray. `run_launcher` in dagster.yaml runs the run on Ray, and
`executor_def` each step. `io_manager` keeps the steps' outputs in Ray's object store. The second
job is the same graph with steps that are Ray tasks.
"""

import os
import random
from collections.abc import Iterator

import dagster as dg
from dagster_ray import RayIOManager, ray_executor

LIMIT = 300_000
SLICES = "abc"
SIZE = LIMIT // len(SLICES)


@dg.op(out=dg.DynamicOut(int))
def slices() -> Iterator[dg.DynamicOutput[int]]:
    """Splits the numbers below the limit into slices, one step for each."""
    for number, name in enumerate(SLICES):
        yield dg.DynamicOutput(number * SIZE, mapping_key=name)


@dg.op
def count(context: dg.OpExecutionContext, start: int) -> int:
    """Counts the primes of one slice. The steps of all slices run in parallel."""
    found = sum(1 for number in range(start, start + SIZE) if is_prime(number))
    context.log.info(f"{found} primes from {start} to {start + SIZE}")
    return found


@dg.op(retry_policy=dg.RetryPolicy(max_retries=1))
def total(context: dg.OpExecutionContext, counts: list[int]) -> int:
    """Adds the counts. Fails at the first attempt, so that Dagster retries it."""
    if context.retry_number == 0:
        raise ConnectionError("a service is unreachable (the demo raises this on purpose)")
    return sum(counts)


@dg.op(
    tags={
        "dagster-ray/config": {
            "num_cpus": 1,
            "runtime_env": {"env_vars": {"AUDIENCE": "reader"}},
        }
    }
)
def report(context: dg.OpExecutionContext, primes: int) -> None:
    """Logs the result. Its tag overrides the executor's Ray configuration."""
    audience = os.environ["AUDIENCE"]
    context.log.info(f"dear {audience}, there are {primes} primes below {LIMIT}")


@dg.graph
def primes() -> None:
    """Counts the primes below the limit."""
    report(total(slices().map(count).collect()))


def is_prime(number: int) -> bool:
    """Tests a number by Miller and Rabin. The error probability is below 4 ** -8."""
    if number < 4:
        return number in (2, 3)
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(8):
        power = pow(random.randrange(2, number - 1), odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True


AS_JOBS = ray_executor.configured({"ray": {"num_cpus": 0.25}})
AS_TASKS = ray_executor.configured({"isolation": "task", "num_cpus": 0.25})

definitions = dg.Definitions(
    jobs=[
        primes.to_job(executor_def=AS_JOBS),
        primes.to_job(name="primes_as_tasks", executor_def=AS_TASKS),
    ],
    resources={"io_manager": RayIOManager()},
)
