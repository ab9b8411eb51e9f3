"""Jobs for third-party backends."""

import os
import time
from pathlib import Path

import dagster as dg
from dagster_ray import ray_executor


@dg.op
def first() -> int:
    return 1


@dg.op
def meets(context: dg.OpExecutionContext, before: int) -> int:
    # Each op waits for the other, so both end only if they run at the same time.
    place = Path(os.environ["PLACE"])
    (place / context.op_handle.name).touch()
    deadline = time.monotonic() + 60
    while len(list(place.iterdir())) < 2:
        assert time.monotonic() < deadline, "the other did not come"
        time.sleep(0.1)
    return before


@dg.op
def add(left: int, right: int) -> int:
    return left + right


@dg.job(executor_def=ray_executor)
def together():
    one = first()
    add(meets.alias("left")(one), meets.alias("right")(one))


@dg.op
def breaks(before: int) -> None:
    raise ValueError("this op cannot do it")


@dg.op
def leaves(before: int) -> None:
    # Exit code 3 without a Dagster event: only the backend can report the failure.
    os.write(2, b"the license server is unreachable\n")
    os._exit(3)


@dg.job(executor_def=ray_executor)
def broken():
    one = first()
    breaks(one)
    leaves(one)


@dg.op
def stays(context: dg.OpExecutionContext) -> None:
    place = Path(os.environ["PLACE"])
    (place / f"{context.op_handle.name}.started").touch()
    try:
        time.sleep(120)
    finally:
        (place / f"{context.op_handle.name}.cleaned").touch()


@dg.job(executor_def=ray_executor)
def staying():
    stays.alias("one")()
    stays.alias("two")()
