"""The executor under its module path in `dagster-ray` from PyPI."""

from dagster_ray.configs import RayExecutorConfig
from dagster_ray.executor import RayExecutor, RayStepHandler, ray_executor

__all__ = ["RayExecutor", "RayExecutorConfig", "RayStepHandler", "ray_executor"]
