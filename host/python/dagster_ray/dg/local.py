"""The component for a resource with Ray on this machine."""

from typing import Any

import dagster as dg
from pydantic import Field

from dagster_ray.local import LocalRay


class LocalRayComponent(dg.Component, dg.Resolvable, dg.Model):
    """A resource with Ray on this machine, or at `RAY_ADDRESS`: `dagster_ray.LocalRay`."""

    resource_key: str = Field(default="ray_cluster", description="The key of the resource.")
    ray_init_options: dict[str, Any] = Field(
        default_factory=dict, description="The arguments of `ray.init`."
    )
    env_vars: dict[str, str] | None = Field(
        default=None, description="Environment variables of Ray's workers."
    )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Returns the resource."""
        ray = LocalRay(ray_init_options=self.ray_init_options, env_vars=self.env_vars)
        return dg.Definitions(resources={self.resource_key: ray})
