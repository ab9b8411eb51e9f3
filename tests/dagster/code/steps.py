"""Jobs for the tests of the step executor."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_ray import ray_executor


@dg.op
def first() -> int:
    return 1


def _meeting(name: str, other: str) -> dg.OpDefinition:
    @dg.op(name=name)
    def op(before: int) -> None:
        # Each op waits for the other, so both end only if they run at the same time.
        place = Path(os.environ["MEETING"])
        (place / name).touch()
        deadline = time.monotonic() + 60
        while not (place / other).exists():
            assert time.monotonic() < deadline, f"{other} did not come"
            time.sleep(0.1)

    return op


left, right = _meeting("left", "right"), _meeting("right", "left")


@dg.op(
    retry_policy=dg.RetryPolicy(max_retries=1),
    tags={
        "dagster-ray/config": {
            "num_cpus": 0,
            "resources": {"widget": 1},
            "env_vars": ["COLOUR=blue", "FROM_LAUNCHER"],
        }
    },
)
def flaky(context: dg.OpExecutionContext, before: int) -> dict[str, str]:
    if context.retry_number == 0:
        raise RuntimeError("the first try fails")
    names = ("COLOUR", "FROM_LAUNCHER", "SHARED", "DAGSTER_RUN_JOB_NAME", "DAGSTER_RUN_STEP_KEY")
    return {name: os.environ.get(name, "") for name in names}


@dg.op(out=dg.DynamicOut(int))
def spread(before: int):
    for number in range(2):
        yield dg.DynamicOutput(number, mapping_key=f"n_{number}")


@dg.op
def double(number: int) -> int:
    return number * 2


@dg.op
def gather(numbers: list[int], flaky: dict[str, str]) -> int:
    return sum(numbers)


@dg.job(executor_def=ray_executor)
def story():
    one = first()
    left(one)
    right(one)
    gather(spread(one).map(double).collect(), flaky(one))


@dg.op
def fails():
    raise ValueError("this op cannot do it")


@dg.op
def after_failure(before):
    return before


@dg.job(executor_def=ray_executor)
def failing():
    after_failure(fails())


@dg.op
def waits(context: dg.OpExecutionContext) -> None:
    time.sleep(120)


@dg.op
def dies(context: dg.OpExecutionContext) -> None:
    # Simulates an out-of-memory kill: no Python code can report a failure.
    os.kill(os.getpid(), signal.SIGKILL)


@dg.op
def leaves(context: dg.OpExecutionContext) -> None:
    # Exit code 0 without a Dagster event: the Ray job succeeds, but the step did not end.
    os._exit(0)


@dg.job(executor_def=ray_executor)
def abandoned():
    waits()
    dies()
    leaves()


@dg.job(executor_def=ray_executor)
def waiting():
    waits()


@dg.op
def quick() -> int:
    return 1


@dg.job(executor_def=ray_executor)
def pair():
    quick.alias("quick_one")()
    quick.alias("quick_two")()


@dg.op(tags={"dagster-ray/config": {"num_cpus": -1}})
def negative() -> None:
    return None


@dg.op(tags={"dagster-ray/config": "{not json"})
def unreadable() -> None:
    return None


@dg.job(executor_def=ray_executor)
def misconfigured():
    negative()
    unreadable()
    quick()


@dg.op(config_schema={"marks": str})
def cleans_up(context: dg.OpExecutionContext) -> None:
    marks = Path(context.op_config["marks"])
    (marks / f"{context.op_handle.name}.started").touch()
    try:
        time.sleep(120)
    finally:
        # Longer than Ray's default grace period for a stopped job, which is three seconds.
        time.sleep(5)
        (marks / f"{context.op_handle.name}.cleaned").touch()


@dg.job(executor_def=ray_executor)
def lonely():
    quick.alias("lonely_one").tag({"kind": "lonely"})()
    quick.alias("lonely_two").tag({"kind": "lonely"})()


@dg.job(executor_def=ray_executor)
def single():
    quick()


def _local(op: dg.OpDefinition, name: str) -> Any:
    return op.alias(name).tag({"dagster-ray/config": '{"enabled": false}'})


@dg.op
def says_where(before: int) -> list[int]:
    return [os.getpid(), int("RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ)]


@dg.op(retry_policy=dg.RetryPolicy(max_retries=1))
def succeeds_at_last(context: dg.OpExecutionContext, before: list[int]) -> int:
    if context.retry_number == 0:
        raise RuntimeError("the first try fails")
    return os.getpid()


@dg.job(executor_def=ray_executor)
def mixed():
    one = quick()
    says_where.alias("on_ray").tag({"dagster-ray/config": '{"enabled": true}'})(one)
    _local(succeeds_at_last, "again")(_local(says_where, "beside")(one))


@dg.op
def exits() -> None:
    sys.stderr.write("the license server is unreachable\n")
    sys.stderr.flush()
    os._exit(3)


@dg.job(executor_def=ray_executor)
def failing_beside():
    for op in (fails, dies, leaves, exits):
        _local(op, op.name)()


@dg.job(executor_def=ray_executor)
def staying_beside():
    _local(cleans_up, "cleans_up")()
