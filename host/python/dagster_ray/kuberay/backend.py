"""Calls the component behind the KubeRay resources, clients and jobs."""

from collections.abc import Mapping
from typing import Any

from dagster_ray.backend import Backend, Connection


class KubeRay(Backend):
    """Calls the component `kuberay`, or another component that creates clusters."""

    def __init__(
        self,
        *,
        kube_config: str | None = None,
        kube_context: str | None = None,
        namespace: str | None = None,
        backend: str = "kuberay",
        backend_grants: Mapping[str, Any] | None = None,
        backend_sha256: str | None = None,
    ) -> None:
        super().__init__(
            Connection(
                backend=backend,
                backend_config={} if namespace is None else {"namespace": namespace},
                kube_config=kube_config,
                kube_context=kube_context,
                backend_grants=backend_grants,
                backend_sha256=backend_sha256,
            )
        )


__all__ = ["KubeRay"]
