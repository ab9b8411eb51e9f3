"""A job of `WIDTH` independent steps."""

import os

import dagster as dg
from dagster_ray.core.executor import ray_executor

WIDTH = int(os.environ["WIDTH"])


@dg.op(out={})
def step():
    pass


@dg.job(executor_def=ray_executor)
def wide():
    for number in range(WIDTH):
        step.alias(f"step_{number}")()
