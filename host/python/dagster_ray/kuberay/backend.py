"""Calls the component behind the KubeRay resources, clients and jobs."""

from collections.abc import Mapping
from dataclasses import dataclass

from typing_extensions import Unpack

from dagster_ray.backend import Backend
from dagster_ray.configs import BackendConfig, BackendKeywords
from dagster_ray.contract import EndpointSet
from dagster_ray.errors import ComponentError

DEFAULT_BACKEND = "kuberay"


@dataclass(frozen=True)
class DashboardAccess:
    """How the dashboards of the clusters are reached. By default, as Services of Kubernetes."""

    # The URL of an ingress.
    address: str | None = None
    headers: Mapping[str, str] | None = None
    cookies: Mapping[str, str] | None = None
    verify: bool | str | None = None


class KubeRay(Backend):
    """Calls the component `kuberay`, or another component that creates clusters."""

    def __init__(
        self,
        *,
        namespace: str | None = None,
        is_checked: bool = False,
        start_timeout: float | None = None,
        access: "DashboardAccess | None" = None,
        **backend: Unpack[BackendKeywords],
    ) -> None:
        settings = {} if namespace is None else {"namespace": namespace}
        defaults: BackendKeywords = {"backend": DEFAULT_BACKEND, "backend_config": settings}
        access = access or DashboardAccess()
        config = BackendConfig.validated(**{**defaults, **backend}, **vars(access))
        super().__init__(config, is_checked=is_checked, start_timeout=start_timeout)


def head_service(endpoints: EndpointSet, namespace: str) -> str:
    """Returns the name of the Kubernetes service of a Ray head in the namespace of its cluster.

    The component names the service. A local port must not lead to another namespace.
    """
    service, *rest = endpoints["host"].split(".")
    if rest[:1] != [namespace]:
        raise ComponentError(
            f"the component names the Ray head {endpoints['host']!r}, but its cluster is in the "
            f"namespace {namespace!r}. Expected <service>.{namespace}.svc"
        )
    return service


__all__ = ["DEFAULT_BACKEND", "DashboardAccess", "KubeRay", "head_service"]
