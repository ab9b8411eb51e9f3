"""An op, an asset and a function that run a script as a Ray job."""

from dagster_ray.ops.asset import ray_job_asset
from dagster_ray.ops.job import execute_ray_job, ray_job_op

__all__ = ["execute_ray_job", "ray_job_asset", "ray_job_op"]
