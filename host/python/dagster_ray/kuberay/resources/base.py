"""The base class of the resources under its module path in `dagster-ray` from PyPI."""

from dagster_ray.kuberay.base import BaseKubeRayResource

__all__ = ["BaseKubeRayResource"]
