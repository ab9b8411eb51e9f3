"""The executor: submits each step of a run as a Ray job, or starts it as a local process."""

from dagster_ray.executor.executor import RayExecutor, ray_executor
from dagster_ray.executor.step_handler import RayStepHandler

__all__ = ["RayExecutor", "RayStepHandler", "ray_executor"]
