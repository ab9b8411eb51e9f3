"""Jobs that the faults strike. Each op waits until it is released."""

import sys
import time
from pathlib import Path

import dagster as dg
import worker_records
from dagster_ray import PipesRayJobClient, ray_executor

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
            raise dg.Failure("the op fails by its config", allow_retries=False)


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


@dg.op(config_schema={"marks": str, "address": str})
def runs_script(context: dg.OpExecutionContext) -> None:
    """Runs a script, and records the beginning and the end of the op once the script has ended."""
    marks = context.op_config["marks"]
    client = PipesRayJobClient(address=context.op_config["address"])
    script = Path(__file__).parent / "script.py"
    client.run(
        context=context,
        submit_job_params={
            "entrypoint": f"{sys.executable} {script} 100 0.1",
            "metadata": {"mark": marks},
        },
    )
    with worker_records.op_body(context.run_id, "runs_script", context.retry_number):
        return


@dg.job(executor_def=dg.in_process_executor)
def scripted():
    runs_script()


defs = dg.Definitions(jobs=[alone, stepped, parallel, scripted])
