"""A job whose runs use Ray clusters that are ready before the runs begin."""

import os

import dagster as dg
from dagster_ray import ray_executor


@dg.op(out=dg.Out(dg.Nothing))
def extract(context: dg.OpExecutionContext) -> None:
    context.log.info(f"extract runs on {os.uname().nodename}")


@dg.op(ins={"extracted": dg.In(dg.Nothing)})
def report(context: dg.OpExecutionContext) -> None:
    context.log.info(f"report runs on {os.uname().nodename}")


@dg.job(executor_def=ray_executor)
def hourly() -> None:
    """The run's worker and its steps use one cluster of the pool."""
    report(extract())


defs = dg.Definitions(jobs=[hourly])
