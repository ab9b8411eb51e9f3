"""The components for scripts and clusters on Kubernetes."""

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
from dagster_ray.kuberay.client import RayJobClient
from dagster_ray.kuberay.client_resources import KubeRayClusterClientResource
from dagster_ray.kuberay.cluster import KubeRayCluster
from dagster_ray.kuberay.pipes import PipesKubeRayJobClient
from dagster_ray.pipes.client import SubmitJobParams


class KubeRayPipesParams(BaseModel):
    """The options of ``dg scaffold defs dagster_ray.dg.KubeRayPipesComponent``."""

    namespace: str | None = Field(default=None, description="The namespace of the RayJob.")
    image: str | None = Field(default=None, description="The image of the RayJob's pods.")
    asset_key: str | None = Field(default=None, description="The key of the script's asset.")


class KubeRayPipesScaffolder(ScriptScaffolder[KubeRayPipesParams]):
    """Writes ``defs.yaml`` and a script with Dagster Pipes."""

    @classmethod
    def get_scaffold_params(cls) -> type[KubeRayPipesParams]:
        return KubeRayPipesParams

    def attributes(self, params: KubeRayPipesParams) -> dict[str, Any]:
        head: dict[str, Any] = {
            "name": "ray-head",
            "image": params.image or "rayproject/ray:2.60.0",
        }
        group = {"rayStartParams": {}, "template": {"spec": {"containers": [head]}}}
        spec = {"shutdownAfterJobFinishes": True, "rayClusterSpec": {"headGroupSpec": group}}
        metadata = {"namespace": params.namespace} if params.namespace else {}
        return {"ray_job": {"metadata": metadata, "spec": spec}}


@dg.scaffold_with(KubeRayPipesScaffolder)
class KubeRayPipesComponent(ScriptComponent):
    """A script as a RayJob of KubeRay, with Dagster Pipes."""

    ray_job: dict[str, Any] = Field(
        description="The RayJob's manifest, without `entrypoint`: `{metadata: {}, spec: {}}`."
    )
    kube_config: str | None = Field(default=None, description=described("kube_config"))
    kube_context: str | None = Field(default=None, description=described("kube_context"))

    @cached_property
    def _own_client(self) -> PipesKubeRayJobClient:
        client = RayJobClient(kube_config=self.kube_config, kube_context=self.kube_context)
        return PipesKubeRayJobClient(client=client)

    def _run(
        self, context: dg.OpExecutionContext, folder: Path, resources: Mapping[str, object]
    ) -> PipesClientCompletedInvocation:
        client = cast("PipesKubeRayJobClient", self._given_client(resources) or self._own_client)
        params: dict[str, Any] = {"entrypoint": self.entrypoint}
        if self.runtime_env is not None:
            params["runtime_env"] = absolute_paths(self.runtime_env, folder)
        return client.run(
            context=context,
            submit_job_params=cast("SubmitJobParams", params),
            ray_job=self.ray_job,
            metadata=self.metadata,
            extras=self.extras,
        )


class KubeRayClusterComponent(dg.Component, dg.Resolvable, dg.Model):
    """A resource that creates a RayCluster for each step: `dagster_ray.kuberay.KubeRayCluster`."""

    resource_key: str = Field(default="ray_cluster", description="The key of the resource.")
    image: str | None = Field(default=None, description="The image of the cluster's pods.")
    ray_cluster: dict[str, Any] = Field(
        default_factory=dict,
        description="The RayCluster: the fields of `dagster_ray.kuberay.RayClusterConfig`.",
    )
    cluster_sharing: dict[str, Any] = Field(
        default_factory=dict,
        description="How steps share a cluster: the fields of `ClusterSharing`.",
    )
    lifecycle: dict[str, Any] = Field(
        default_factory=lambda: {"cleanup": "always"},
        description="When the cluster is created and deleted: the fields of `Lifecycle`.",
    )
    timeout: float = Field(
        default=600.0, description="Seconds that the cluster may take to become ready."
    )
    env_vars: dict[str, str] | None = Field(
        default=None, description="Environment variables of Ray's workers."
    )
    kube_config: str | None = Field(default=None, description=described("kube_config"))
    kube_context: str | None = Field(default=None, description=described("kube_context"))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Returns the resource."""
        client = KubeRayClusterClientResource(
            kube_config=self.kube_config, kube_context=self.kube_context
        )
        fields: dict[str, Any] = {
            "image": self.image,
            "ray_cluster": self.ray_cluster,
            "cluster_sharing": self.cluster_sharing,
            "lifecycle": self.lifecycle,
            "timeout": self.timeout,
            "env_vars": self.env_vars,
            "client": client,
        }
        return dg.Definitions(resources={self.resource_key: KubeRayCluster(**fields)})
