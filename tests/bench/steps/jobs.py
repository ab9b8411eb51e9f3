"""Jobs of trivial steps. `EXECUTOR` is `multiprocess`, or `ray` for the executor of the package."""

import os

import dagster as dg

CHAIN = 10
FAN = int(os.environ.get("FAN", "100"))

if os.environ["EXECUTOR"] == "multiprocess":
    executor = dg.multiprocess_executor
else:
    from dagster_ray.core.executor import ray_executor as executor


@dg.op
def source() -> int:
    return 0


@dg.op
def add(number: int) -> int:
    return number + 1


@dg.op
def total(numbers: list[int]) -> int:
    return sum(numbers)


@dg.job(executor_def=executor)
def chain():
    number = source()
    for index in range(1, CHAIN):
        number = add.alias(f"add_{index}")(number)


@dg.job(executor_def=executor)
def fan():
    number = source()
    total([add.alias(f"add_{index}")(number) for index in range(FAN)])
