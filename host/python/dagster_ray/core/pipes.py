"""The Pipes client under its module path in `dagster-ray` from PyPI."""

from dagster_ray.pipes.client import (
    PIPES_LAUNCHED_EXTRAS_RAY_ADDRESS_KEY,
    PIPES_LAUNCHED_EXTRAS_RAY_JOB_ID_KEY,
    PipesRayJobClient,
    PipesRayJobMessageReader,
    SubmitJobParams,
)
from dagster_ray.pipes.job_submission import generate_job_id, tail_logs

__all__ = [
    "PIPES_LAUNCHED_EXTRAS_RAY_ADDRESS_KEY",
    "PIPES_LAUNCHED_EXTRAS_RAY_JOB_ID_KEY",
    "PipesRayJobClient",
    "PipesRayJobMessageReader",
    "SubmitJobParams",
    "generate_job_id",
    "tail_logs",
]
