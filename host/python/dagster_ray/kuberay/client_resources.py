"""The Dagster resources that provide clients for KubeRay's custom resources."""

from typing import Any, TypeVar

import dagster as dg
from pydantic import Field, PrivateAttr

from dagster_ray.configs import described
from dagster_ray.dagster_typing import Resource
from dagster_ray.instance_policy import check_resource
from dagster_ray.kuberay.client import RayClusterClient, RayJobClient
from dagster_ray.kuberay.client.base import BaseKubeRayClient
from dagster_ray.kuberay.default_groups import Document

ClientT = TypeVar("ClientT", bound=BaseKubeRayClient[Any])


class _ClientResource(Resource):
    """A Dagster resource with the access to Kubernetes."""

    kube_context: str | None = Field(default=None, description=described("kube_context"))
    kube_config: str | None = Field(default=None, description=described("kube_config"))
    backend_grants: Document | None = Field(default=None, description=described("backend_grants"))
    backend_sha256: str | None = Field(default=None, description=described("backend_sha256"))
    dashboard_link: str | None = Field(default=None, description=described("dashboard_link"))

    def __init__(self, **data: Any) -> None:
        if "kubeconfig_file" in data:
            data["kube_config"] = data.pop("kubeconfig_file")
        super().__init__(**data)

    _is_checked: bool = PrivateAttr(default=False)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        check_resource(context, self)
        self._is_checked = True

    def _new(self, client: type[ClientT]) -> ClientT:
        made = client(
            self.kube_config,
            self.kube_context,
            backend_grants=self.backend_grants,
            backend_sha256=self.backend_sha256,
            dashboard_link=self.dashboard_link,
        )
        made.is_checked = self._is_checked
        return made


class KubeRayClusterClientResource(_ClientResource):
    """Provides steps with a :class:`RayClusterClient`."""

    @property
    def client(self) -> RayClusterClient:
        """The client, for code that reads `resource.client`."""
        return self._new(RayClusterClient)

    def create_resource(self, context: dg.InitResourceContext) -> Any:
        return self.client


class KubeRayJobClientResource(_ClientResource):
    """Provides steps with a :class:`RayJobClient`."""

    @property
    def client(self) -> RayJobClient:
        """The client, for code that reads `resource.client`."""
        return self._new(RayJobClient)

    def create_resource(self, context: dg.InitResourceContext) -> Any:
        return self.client


# The names in earlier releases.
KubeRayClient = KubeRayClusterClientResource
RayClusterClientResource = KubeRayClusterClientResource

__all__ = [
    "KubeRayClient",
    "KubeRayClusterClientResource",
    "KubeRayJobClientResource",
    "RayClusterClientResource",
]
