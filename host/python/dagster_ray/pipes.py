"""The Pipes client under its module path in earlier releases."""

from dagster_ray.core.pipes import (
    PipesRayJobClient,
    PipesRayJobMessageReader,
    SubmitJobParams,
)

__all__ = ["PipesRayJobClient", "PipesRayJobMessageReader", "SubmitJobParams"]
