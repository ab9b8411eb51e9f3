"""A job whose step worker is killed while it runs a script."""

import os
import signal
import threading
import time
from pathlib import Path

import dagster as dg
from dagster_ray import PipesRayJobClient, ray_executor


@dg.op(
    config_schema={"marks": str, "address": str},
    retry_policy=dg.RetryPolicy(max_retries=1, delay=1),
)
def runs_script(context: dg.OpExecutionContext) -> None:
    marks = Path(context.op_config["marks"])
    if context.retry_number > 0:
        (marks / "attempt-1").touch()
        return

    def die_with_script() -> None:
        while not (marks / "script").exists():
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=die_with_script, daemon=True).start()
    entrypoint = f"touch {marks}/script; sleep 600"
    client = PipesRayJobClient(address=context.op_config["address"])
    client.run(context=context, submit_job_params={"entrypoint": entrypoint})


@dg.job(executor_def=ray_executor)
def scripted():
    runs_script()


defs = dg.Definitions(jobs=[scripted])
