"""Jobs for the tests of steps as Ray tasks."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import dagster as dg
from dagster_ray import ray_executor


def _tag(**options: object) -> dict[str, str]:
    return {"dagster-ray/config": json.dumps(options)}


def _mark(name: str) -> None:
    with (Path(os.environ["MARKS"]) / name).open("a") as file:
        file.write(f"{os.getpid()}\n")


@dg.op
def first() -> int:
    return 1


@dg.op
def pid(before: int) -> int:
    sys.stdout.write(f"the process is {os.getpid()}\n")
    return os.getpid()


@dg.op(out=dg.DynamicOut(int))
def spread(before: int):
    for number in range(3):
        yield dg.DynamicOutput(number, mapping_key=f"n_{number}")


@dg.op
def double(number: int) -> int:
    return number * 2


@dg.op(retry_policy=dg.RetryPolicy(max_retries=1))
def flaky(context: dg.OpExecutionContext, before: int) -> dict[str, str]:
    if context.retry_number == 0:
        os.environ["LEFT_BEHIND"] = "yes"
        raise RuntimeError("the first try fails")
    names = ("COLOUR", "DAGSTER_RUN_JOB_NAME", "DAGSTER_RUN_STEP_KEY", "LEFT_BEHIND")
    return {name: os.environ.get(name, "") for name in names}


@dg.op
def gather(numbers: list[int], flaky: dict[str, str]) -> int:
    return sum(numbers)


@dg.success_hook
def notes_success(context: dg.HookContext) -> None:
    _mark(f"success-{context.op.name}")


@dg.failure_hook
def notes_failure(context: dg.HookContext) -> None:
    _mark(f"failure-{context.op.name}")


@dg.job(executor_def=ray_executor, hooks={notes_success})
def story():
    one = first()
    flaky_one = flaky.alias("flaky").tag(_tag(env_vars=["COLOUR=blue", "MARKS"]))(one)
    gather(spread(one).map(double).collect(), flaky_one)
    pid.alias("again")(pid(one))


@dg.op
def fails() -> None:
    raise ValueError("this op cannot do it")


@dg.op(retry_policy=dg.RetryPolicy(max_retries=1))
def dies(context: dg.OpExecutionContext) -> int:
    if context.retry_number == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


@dg.op
def asks_again(context: dg.OpExecutionContext) -> int:
    if context.retry_number == 0:
        raise dg.RetryRequested(max_retries=1)
    return context.retry_number


@dg.op
def leaves() -> None:
    os._exit(0)


@dg.op
def slow() -> int:
    time.sleep(3)
    return 1


@dg.op
def broken_environment() -> None:
    return None


@dg.job(executor_def=ray_executor, hooks={notes_failure})
def failing():
    fails()
    dies()
    asks_again()
    leaves()
    slow()
    broken_environment.tag(_tag(runtime_env={"py_modules": ["gcs://_ray_pkg_missing.zip"]}))()
    slow.alias("negative").tag(_tag(num_cpus=-1))()


@dg.op
def cleans_up() -> None:
    _mark("started")
    try:
        # One system call: only a signal ends it.
        time.sleep(120)
    finally:
        time.sleep(0.5)
        _mark("cleaned")


@dg.job(executor_def=ray_executor)
def waiting():
    cleans_up()


@dg.op
def counted() -> None:
    marks = Path(os.environ["MARKS"])
    name = f"running-{os.getpid()}-{time.monotonic_ns()}"
    (marks / name).touch()
    (marks / f"seen-{len(list(marks.glob('running-*')))}").touch()
    time.sleep(0.3)
    (marks / name).unlink()


@dg.job(executor_def=ray_executor)
def limited():
    for number in range(4):
        counted.alias(f"counted_{number}")()


@dg.job(executor_def=ray_executor)
def pooled():
    for number in range(3):
        counted.alias(f"pooled_{number}").tag({"dagster/concurrency_key": "licenses"})()


@dg.op
def counts_itself() -> int:
    _mark("executions")
    return 20


@dg.op
def needs_repair(number: int) -> int:
    if not (Path(os.environ["MARKS"]) / "repaired").exists():
        raise RuntimeError("not repaired yet")
    return number + 1


@dg.job(executor_def=ray_executor)
def repaired():
    pid(needs_repair(counts_itself()))


@dg.op
def waits_for_word(number: int) -> int:
    _mark("starts")
    while not (Path(os.environ["MARKS"]) / "go").exists():
        time.sleep(0.1)
    return number + 1


@dg.job(executor_def=ray_executor)
def survives():
    pid(waits_for_word(counts_itself()))


@dg.op
def where(before: int) -> list[str]:
    import ray

    job = os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR")
    kind = "job" if job else "task" if ray.is_initialized() else "local"
    return [kind, str(os.getpid())]


@dg.job(executor_def=ray_executor)
def mixed():
    one = first()
    where.alias("as_task")(one)
    where.alias("as_job").tag(_tag(isolation="job"))(one)
    where.alias("beside").tag(_tag(enabled=False))(one)
    where.alias("fresh").tag(_tag(process="fresh"))(one)
    where.alias("gpu_one").tag(_tag(num_gpus=1))(one)
    where.alias("gpu_two").tag(_tag(num_gpus=1))(one)
