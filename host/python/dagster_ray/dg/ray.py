"""The component for a script on an existing Ray cluster, or on Ray on this machine."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import dagster as dg
from pydantic import BaseModel, Field

from dagster_ray.configs import described
from dagster_ray.dagster_internals import PipesClientCompletedInvocation
from dagster_ray.dg.scaffolding import ScriptScaffolder
from dagster_ray.dg.script import ScriptComponent, absolute_paths
from dagster_ray.pipes.client import PipesRayJobClient, SubmitJobParams


class RayConnection(dg.Resolvable, dg.Model):
    """Where Ray is, and the credentials for it."""

    address: str | None = Field(default=None, description=described("address"))
    headers: dict[str, str] | None = Field(default=None, description=described("headers"))
    cookies: dict[str, str] | None = Field(default=None, description=described("cookies"))
    verify: bool | str | None = Field(default=None, description=described("verify"))
    backend: str | None = Field(default=None, description=described("backend"))
    backend_config: dict[str, Any] | None = Field(
        default=None, description=described("backend_config")
    )
    dashboard_link: str | None = Field(default=None, description=described("dashboard_link"))
    unreachable_timeout: float | None = Field(
        default=None, description=described("unreachable_timeout")
    )


class RayPipesParams(BaseModel):
    """The options of ``dg scaffold defs dagster_ray.dg.RayPipesComponent``."""

    address: str | None = Field(default=None, description=described("address"))
    asset_key: str | None = Field(default=None, description="The key of the script's asset.")


class RayPipesScaffolder(ScriptScaffolder[RayPipesParams]):
    """Writes ``defs.yaml`` and a script with Dagster Pipes."""

    @classmethod
    def get_scaffold_params(cls) -> type[RayPipesParams]:
        return RayPipesParams

    def attributes(self, params: RayPipesParams) -> dict[str, Any]:
        return {"ray": {"address": params.address}} if params.address else {}


@dg.scaffold_with(RayPipesScaffolder)
class RayPipesComponent(ScriptComponent):
    """A script as a Ray job, with Dagster Pipes.

    Without `ray` and `resource_key`, Ray is started on this machine, unless `RAY_ADDRESS` is set.
    """

    ray: RayConnection | None = Field(
        default=None, description="Where Ray is, and the credentials for it."
    )
    num_cpus: float | None = Field(default=None, description="CPUs for the entrypoint.")
    num_gpus: float | None = Field(default=None, description="GPUs for the entrypoint.")
    memory: int | None = Field(default=None, description="Bytes of memory for the entrypoint.")
    resources: dict[str, float] | None = Field(
        default=None, description="Custom resources for the entrypoint."
    )
    label_selector: dict[str, str] | None = Field(
        default=None, description="Labels that the entrypoint's node must have."
    )

    @cached_property
    def _own_client(self) -> PipesRayJobClient:
        fields = self.ray.model_dump(exclude_none=True) if self.ray else {}
        return PipesRayJobClient(**fields)

    def _run(
        self, context: dg.OpExecutionContext, folder: Path, resources: Mapping[str, object]
    ) -> PipesClientCompletedInvocation:
        client = cast("PipesRayJobClient", self._given_client(resources) or self._own_client)
        options = {
            "runtime_env": absolute_paths(self.runtime_env, folder),
            "metadata": self.metadata,
            "entrypoint_num_cpus": self.num_cpus,
            "entrypoint_num_gpus": self.num_gpus,
            "entrypoint_memory": self.memory,
            "entrypoint_resources": self.resources,
            "entrypoint_label_selector": self.label_selector,
        }
        given_options = {name: value for name, value in options.items() if value is not None}
        params = cast("SubmitJobParams", {"entrypoint": self.entrypoint, **given_options})
        return client.run(context=context, submit_job_params=params, extras=self.extras)
