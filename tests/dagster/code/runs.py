"""Jobs that the tests of the run launcher start."""

import os
import time
from pathlib import Path

import dagster as dg
from dagster_ray import ray_executor
from steps import cleans_up


@dg.op(config_schema={"marks": str})
def works(context: dg.OpExecutionContext) -> None:
    environment = f"{os.environ.get('DAGSTER_RUN_JOB_NAME', '')} {os.environ.get('PLANET', '')}"
    (Path(context.op_config["marks"]) / "worked").write_text(environment)


@dg.job(executor_def=dg.in_process_executor)
def succeeds():
    works()


@dg.op
def breaks() -> None:
    raise ValueError("this run cannot do it")


@dg.job(executor_def=dg.in_process_executor)
def fails():
    breaks()


@dg.job(executor_def=ray_executor)
def long():
    cleans_up.alias("one")()
    cleans_up.alias("two")()
    cleans_up.alias("beside").tag({"dagster-ray/config": '{"enabled": false}'})()


@dg.op(config_schema={"marks": str})
def waits_for_word(context: dg.OpExecutionContext) -> None:
    marks = Path(context.op_config["marks"])
    with (marks / "starts").open("a") as starts:
        starts.write("x")
    while not (marks / "go").exists():
        time.sleep(0.2)


@dg.job(executor_def=ray_executor)
def survives():
    waits_for_word()


defs = dg.Definitions(jobs=[succeeds, fails, long, survives])
