"""Dagster Pipes: runs scripts as Ray jobs, and reads their messages and output."""

from dagster_ray.pipes.client import PipesRayJobClient, SubmitJobParams
from dagster_ray.pipes.message_reader import PipesRayJobMessageReader

__all__ = ["PipesRayJobClient", "PipesRayJobMessageReader", "SubmitJobParams"]
