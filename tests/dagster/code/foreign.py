"""Jobs whose steps run on whatever the backend is made for."""

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
    # Each waits for the other: one after the other, neither ever ends.
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
    # Exit code 3, and no event: only the backend knows.
    os.write(2, b"the licence server is away\n")
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
