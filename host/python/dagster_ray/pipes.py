"""The Pipes client, under its earlier module path."""

from dagster_ray.core.pipes import (
    PipesRayJobClient,
    PipesRayJobMessageReader,
    SubmitJobParams,
)

__all__ = ["PipesRayJobClient", "PipesRayJobMessageReader", "SubmitJobParams"]
