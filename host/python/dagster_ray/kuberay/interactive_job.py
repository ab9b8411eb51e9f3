"""The resource for a RayJob in KubeRay's InteractiveMode, whose driver is the step."""

import json
from typing import Any

import dagster as dg
from pydantic import Field

from dagster_ray import ray_access
from dagster_ray.configs import Lifecycle
from dagster_ray.contract import ClusterClient
from dagster_ray.kuberay.backend import KubeRay
from dagster_ray.kuberay.base import BaseKubeRayResource
from dagster_ray.kuberay.client import RayJobClient
from dagster_ray.kuberay.client_resources import KubeRayJobClientResource
from dagster_ray.kuberay.configs import InteractiveRayJobConfig
from dagster_ray.types import AnyDagsterContext


class KubeRayInteractiveJob(BaseKubeRayResource):
    """Creates a RayJob for the step and connects to its cluster; KubeRay deletes the cluster."""

    lifecycle: Lifecycle = Field(default_factory=lambda: Lifecycle(cleanup="on_exception"))
    ray_job: InteractiveRayJobConfig = Field(
        default_factory=InteractiveRayJobConfig, description="The RayJob to create."
    )
    # Dagster's type accepts a client or a resource, but not a default factory.
    client: dg.ResourceDependency[RayJobClient] = Field(default_factory=KubeRayJobClientResource)  # type: ignore

    @property
    def namespace(self) -> str:
        actual = None if self._ref is None else self._ref["namespace"]
        return actual or self.ray_job.namespace

    @property
    def cluster_name(self) -> str:
        """The name of the RayJob's RayCluster."""
        info = ClusterClient(self._calls).get(self._cluster)
        return json.loads(info["document"])["status"]["rayClusterName"]

    def connect(self, context: AnyDagsterContext) -> Any:
        connection = super().connect(context)
        if not ray_access.current().connects_to_ray:
            return connection
        # KubeRay monitors the Ray job of this id, and cleans up when it ends.
        patch = {"spec": {"jobId": self.runtime_job_id}}
        self._clusters(context).update(self._cluster, json.dumps(patch))
        return connection

    def _options(self, context: AnyDagsterContext) -> dict[str, object]:
        return {"ray_job": self.ray_job.to_k8s(context)}

    @property
    def _kind(self) -> str:
        return "RayJob"

    def _new_backend(self) -> KubeRay:
        return self.client.backend_for(self.backend, is_checked=self._is_checked)


__all__ = ["KubeRayInteractiveJob"]
