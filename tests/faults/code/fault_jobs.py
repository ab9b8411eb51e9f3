"""Jobs that the faults strike. Each op waits until it is released."""

import time
from pathlib import Path

import dagster as dg
import worker_records
from dagster_ray import ray_executor

worker_records.record_worker()

# Shorter than the default of 600 s: the tests wait until it has passed.
on_ray = ray_executor.configured({"ray": {"unreachable_timeout": 25.0}})


@dg.op(
    config_schema={
        "marks": str,
        "seconds": dg.Field(float, default_value=600.0),
        "fails": dg.Field(bool, default_value=False),
    }
)
def works(context: dg.OpExecutionContext) -> None:
    """Works until the file `go` exists or the time is over."""
    config = context.op_config
    released = Path(config["marks"]) / "go"
    deadline = time.monotonic() + config["seconds"]
    step = context.op_handle.name
    with worker_records.op_body(context.run_id, step, context.retry_number):
        while not released.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        if config["fails"]:
            raise dg.Failure("the op was told to fail", allow_retries=False)


@dg.job(executor_def=dg.in_process_executor)
def alone():
    works()


@dg.job(executor_def=on_ray)
def stepped():
    works()


@dg.job(executor_def=on_ray)
def parallel():
    works.alias("works")()
    works.alias("beside")()


defs = dg.Definitions(jobs=[alone, stepped, parallel])
