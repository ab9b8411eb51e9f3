"""The parts of KubeRay's objects, with snake_case or KubeRay's field names."""

import copy
from collections.abc import Mapping
from typing import Any, Literal, cast

from dagster_ray.dagster_typing import PermissiveNestedConfig
from dagster_ray.kuberay.default_groups import Document
from dagster_ray.kuberay.field_names import kuberay_name


class ManifestPart(PermissiveNestedConfig):
    """A part of a manifest. Fields that are not listed are passed on to KubeRay."""

    def __init__(self, **given: Any) -> None:
        # Map KubeRay's field names to the Python names, so that the same validation applies.
        ours = {kuberay_name(name): name for name in type(self).model_fields}
        found: Document = {}
        for name, value in given.items():
            own = ours.get(kuberay_name(name), kuberay_name(name))
            # Dagster adds defaults under the Python names.
            if value != found.get(own) and None not in (value, found.get(own)):
                raise ValueError(
                    f"{kuberay_name(name)} is given twice, in two spellings and with different "
                    "values; keep one"
                )
            if found.get(own) is None:
                found[own] = value
        super().__init__(**found)

    def to_k8s(self) -> Document:
        """Returns the fields under KubeRay's names, without those that are `None`."""
        return {
            kuberay_name(name): value.to_k8s()
            if isinstance(value, ManifestPart)
            else copy.deepcopy(value)
            for name, value in dict(self).items()
            if value is not None
        }


class AuthOptions(ManifestPart):
    """How clients authenticate to a cluster."""

    mode: Literal["token", "disabled"] = "token"
    secret_name: str | None = None
    enable_k8s_token_auth: bool | None = None


class RayClusterUpgradeStrategy(ManifestPart):
    """What KubeRay does with a cluster when its manifest changes."""

    type: Literal["Recreate", "None"]


class TLSOptions(ManifestPart):
    """Mutual TLS between the pods of a cluster: alpha in KubeRay 1.7, for Ray 2.55.1 or later."""

    enabled: bool | None = None


class NetworkPolicyConfig(ManifestPart):
    """The network isolation of a cluster's pods: alpha in KubeRay 1.7."""

    mode: str | None = None
    head: Document | None = None
    worker: Document | None = None
    worker_groups: list[Document] | None = None


class CollectorOptions(ManifestPart):
    """The sidecar that collects events for KubeRay's history server."""

    image: str | None = None
    image_pull_policy: str | None = None
    resources: Document | None = None
    env: list[Document] | None = None


class HistoryServerOptions(ManifestPart):
    """Options of KubeRay's history server: alpha in KubeRay 1.7."""

    collector_options: CollectorOptions | None = None


def complete_containers(
    cluster: Document, image: str | None, env_vars: Mapping[str, str] | None
) -> None:
    """Adds an image and variables to the containers of a RayCluster's spec that do not set them.

    A resource does not use this function: its component completes the cluster that it creates.
    """
    groups = [cluster.get("headGroupSpec"), *(cluster.get("workerGroupSpecs") or ())]
    for group in groups:
        for container in _containers(group):
            if image is not None and not container.get("image"):
                container["image"] = image
            written = cast("list[Document]", container.get("env") or [])
            names = {variable.get("name") for variable in written}
            added = (env_vars or {}).items()
            missing = [{"name": key, "value": value} for key, value in added if key not in names]
            if missing:
                container["env"] = [*written, *missing]


def _containers(group: object) -> list[Document]:
    found: object = group
    for key in ("template", "spec", "containers"):
        found = cast("Document", found).get(key) if isinstance(found, dict) else None
    return cast("list[Document]", found) if isinstance(found, list) else []


__all__ = [
    "AuthOptions",
    "CollectorOptions",
    "HistoryServerOptions",
    "ManifestPart",
    "NetworkPolicyConfig",
    "RayClusterUpgradeStrategy",
    "TLSOptions",
    "complete_containers",
]
