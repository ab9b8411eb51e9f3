"""The Dagster deployment of this process, under its module path in `dagster-ray` from PyPI."""

from dagster_ray.deployment import deployment_name

DEFAULT_DEPLOYMENT_NAME = deployment_name()
IS_PROD = DEFAULT_DEPLOYMENT_NAME == "prod"

__all__ = ["DEFAULT_DEPLOYMENT_NAME", "IS_PROD"]
