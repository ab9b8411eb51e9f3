"""Runs the body of a single function on Ray, from any Dagster process."""

from dagster_ray.functions.decorator import ray_function

__all__ = ["ray_function"]
