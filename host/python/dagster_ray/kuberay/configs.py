"""Configuration classes for KubeRay's custom resources, with snake_case or KubeRay's field names.

A manifest contains the defaults of `default_groups.py` and the fields that the user set. The
component adds the others.
"""

import copy
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

from packaging.version import InvalidVersion, Version
from pydantic import Field, model_validator

from dagster_ray.cluster_defaults import JOIN_TIMEOUT_SECONDS, LEASE_TTL_SECONDS
from dagster_ray.dagster_typing import NestedConfig
from dagster_ray.default_namespace import default_namespace
from dagster_ray.deployment import deployment_name
from dagster_ray.kuberay import default_groups
from dagster_ray.kuberay.default_groups import (
    DEFAULT_AUTOSCALER_OPTIONS,
    DEFAULT_HEAD_GROUP_SPEC,
    DEFAULT_WORKER_GROUP_SPECS,
    Document,
)
from dagster_ray.kuberay.manifest_parts import (
    AuthOptions,
    CollectorOptions,
    HistoryServerOptions,
    ManifestPart,
    NetworkPolicyConfig,
    RayClusterUpgradeStrategy,
    TLSOptions,
    complete_containers,
)
from dagster_ray.types import AnyDagsterContext

# The lowest versions of Ray that KubeRay accepts with `auth_options`.
MIN_RAY_VERSION_FOR_TOKEN_AUTH = "2.52.0"
MIN_RAY_VERSION_FOR_K8S_TOKEN_AUTH = "2.55.0"
DEFAULT_CLUSTER_SHARING_TTL_SECONDS = LEASE_TTL_SECONDS

in_k8s = "KUBERNETES_SERVICE_HOST" in os.environ
"""Whether this process runs in a pod."""


class RayClusterSpec(ManifestPart):
    """The spec of a RayCluster."""

    suspend: bool | None = None
    managed_by: str | None = None
    autoscaler_options: Document | None = Field(default_factory=default_groups.autoscaler_options)
    head_service_annotations: dict[str, str] | None = None
    enable_in_tree_autoscaling: bool = False
    gcs_fault_tolerance_options: Document | None = None
    head_group_spec: Document | None = Field(default_factory=default_groups.head_group_spec)
    ray_version: str | None = None
    worker_group_specs: list[Document] | None = Field(
        default_factory=default_groups.worker_group_specs
    )
    auth_options: AuthOptions | None = None
    upgrade_strategy: RayClusterUpgradeStrategy | None = None
    tls_options: TLSOptions | None = None
    network_policy: NetworkPolicyConfig | None = None
    history_server_options: HistoryServerOptions | None = None

    @model_validator(mode="after")
    def _check_auth(self) -> "RayClusterSpec":
        auth = self.auth_options
        if auth is None:
            return self
        by_kubernetes = bool(auth.enable_k8s_token_auth)
        if by_kubernetes and auth.mode != "token":
            raise ValueError("auth_options.enable_k8s_token_auth needs auth_options.mode: token")
        if by_kubernetes and auth.secret_name:
            raise ValueError(
                "auth_options.secret_name and enable_k8s_token_auth exclude each other; remove one"
            )
        if auth.mode == "token":
            since = (
                MIN_RAY_VERSION_FOR_K8S_TOKEN_AUTH
                if by_kubernetes
                else MIN_RAY_VERSION_FOR_TOKEN_AUTH
            )
            _check_version(self.ray_version, Version(since))
        return self

    def to_k8s(
        self,
        context: AnyDagsterContext | None = None,
        image: str | None = None,
        env_vars: Mapping[str, str] | None = None,
    ) -> Document:
        """Returns the spec under KubeRay's names.

        `image` and `env_vars` are added to the containers that do not set them. `context` is not
        needed.
        """
        spec = super().to_k8s()
        complete_containers(spec, image, env_vars)
        return spec


class RayJobSpec(ManifestPart):
    """The spec of a RayJob."""

    active_deadline_seconds: int | None = None
    pre_running_deadline_seconds: int | None = None
    backoff_limit: int | None = None
    ray_cluster_spec: RayClusterSpec | None = Field(default_factory=RayClusterSpec)
    submitter_pod_template: Document | None = None
    submitter_config: Document | None = None
    metadata: Document | None = None
    cluster_selector: dict[str, str] | None = None
    managed_by: str | None = None
    deletion_strategy: Document | None = None
    runtime_env_yaml: str | None = None
    job_id: str | None = None
    submission_mode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"] | None = (
        None
    )
    entrypoint_resources: str | None = None
    entrypoint_num_cpus: float | None = None
    entrypoint_memory: float | None = None
    entrypoint_num_gpus: float | None = None
    ttl_seconds_after_finished: int | None = None
    shutdown_after_job_finishes: bool | None = None
    suspend: bool | None = None

    @model_validator(mode="after")
    def _check_auth(self) -> "RayJobSpec":
        auth = self.ray_cluster_spec.auth_options if self.ray_cluster_spec else None
        if auth is not None and auth.enable_k8s_token_auth:
            raise ValueError("a RayJob cannot use auth_options.enable_k8s_token_auth")
        return self

    def to_k8s(
        self,
        context: AnyDagsterContext | None = None,
        image: str | None = None,
        env_vars: Mapping[str, str] | None = None,
    ) -> Document:
        """Returns the spec under KubeRay's names. See `RayClusterSpec.to_k8s`.

        A job that selects a cluster has none of its own, unless the user wrote one.
        """
        spec = super().to_k8s()
        if self.cluster_selector and self.ray_cluster_spec == RayClusterSpec():
            del spec["rayClusterSpec"]
        complete_containers(spec.get("rayClusterSpec") or {}, image, env_vars)
        return spec


class InteractiveRayJobSpec(RayJobSpec):
    """The spec of a RayJob whose driver is not started by KubeRay."""

    submission_mode: Literal["InteractiveMode"] = "InteractiveMode"  # type: ignore[assignment]


class _Manifest(NestedConfig):
    """A manifest of a custom resource."""

    # The subclasses set the values, and a spec of their kind.
    kind: str
    api_version: str = "ray.io/v1"
    metadata: Document = Field(default_factory=dict)

    @property
    def namespace(self) -> str:
        """The namespace in the metadata, or the default namespace."""
        return self.metadata.get("namespace") or default_namespace()

    def _to_k8s(
        self,
        spec: Document,
        labels: Mapping[str, str] | None,
        annotations: Mapping[str, str] | None,
    ) -> Document:
        metadata = {
            key: copy.deepcopy(value) for key, value in self.metadata.items() if value is not None
        }
        for key, added in (("labels", labels), ("annotations", annotations)):
            if added:
                metadata[key] = {**(metadata.get(key) or {}), **added}
        return {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "metadata": metadata,
            "spec": spec,
        }


class RayClusterConfig(_Manifest):
    """A RayCluster. Fields of its spec may also be written at the top level."""

    kind: str = "RayCluster"
    spec: RayClusterSpec = Field(default_factory=RayClusterSpec)
    image: str | None = Field(default=None, description="The image of containers without one.")

    def __init__(self, **given: Any) -> None:
        if "cluster_sharing" in given:
            raise ValueError(
                "cluster_sharing: is not a field of RayClusterConfig; write "
                "KubeRayCluster(cluster_sharing=ClusterSharing(...))"
            )
        initialize: Callable[..., None] = super().__init__
        initialize(**_folded(given))

    def to_k8s(
        self,
        context: AnyDagsterContext | None = None,
        image: str | None = None,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        env_vars: Mapping[str, str] | None = None,
    ) -> Document:
        """Returns the manifest under KubeRay's names.

        `labels` and `annotations` are added to the metadata, and take precedence there. `image` and
        `env_vars` are added to the containers that do not set them. `context` is not needed.
        """
        return self._to_k8s(self.spec.to_k8s(context, image, env_vars), labels, annotations)


class RayJobConfig(_Manifest):
    """A RayJob."""

    kind: str = "RayJob"
    spec: RayJobSpec = Field(default_factory=RayJobSpec)

    def to_k8s(
        self,
        context: AnyDagsterContext | None = None,
        image: str | None = None,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        env_vars: Mapping[str, str] | None = None,
    ) -> Document:
        """Returns the manifest under KubeRay's names. See `RayClusterConfig.to_k8s`."""
        return self._to_k8s(self.spec.to_k8s(context, image, env_vars), labels, annotations)


class InteractiveRayJobConfig(RayJobConfig):
    """A RayJob whose driver is not started by KubeRay."""

    spec: InteractiveRayJobSpec = Field(  # type: ignore[assignment]
        default_factory=InteractiveRayJobSpec
    )


class MatchDagsterLabels(NestedConfig):
    """Which Dagster labels a shared cluster must have to be joined."""

    cluster_sharing: bool = Field(default=True, description="Only clusters that are shared.")
    code_location: bool = Field(default=True, description="Only those of the code location.")
    resource_key: bool = Field(default=True, description="Only those of the resource's key.")
    git_sha: bool = Field(default=True, description="Only those of the commit of the code.")
    run_id: bool = Field(default=False, description="Only those of the run.")

    @model_validator(mode="after")
    def _check_sharing(self) -> "MatchDagsterLabels":
        if not self.cluster_sharing:
            raise ValueError(
                "match_dagster_labels.cluster_sharing must be true: a cluster without the label "
                "dagster/cluster-sharing has no leases, so it can be deleted while it is in use"
            )
        return self


class ClusterSharingHeartbeat(NestedConfig):
    """How often the lease on a shared cluster is renewed."""

    enabled: bool = Field(default=True, description="Whether leases are renewed regularly.")
    refresh_seconds: float = Field(default=10.0, description="Seconds between two renewals.")


class ClusterSharing(NestedConfig):
    """Whether and how steps share a cluster."""

    enabled: bool = Field(default=False, description="Whether runs and resources share a cluster.")
    match_dagster_labels: MatchDagsterLabels = Field(default_factory=MatchDagsterLabels)
    match_labels: dict[str, str] | None = Field(
        default=None, description="Further labels that a cluster must have to be joined."
    )
    ttl_seconds: float = Field(
        default=LEASE_TTL_SECONDS,
        description="Seconds until a lease expires that is not renewed.",
    )
    join_timeout_seconds: float = Field(
        default=JOIN_TIMEOUT_SECONDS,
        description=(
            "Seconds to wait for an earlier cluster that can be neither joined nor replaced: one "
            "that is being deleted, or that has failed and is still held."
        ),
    )
    heartbeat: ClusterSharingHeartbeat = Field(default_factory=ClusterSharingHeartbeat)

    @model_validator(mode="after")
    def _check_heartbeat(self) -> "ClusterSharing":
        beat = self.heartbeat
        if self.enabled and beat.enabled and beat.refresh_seconds * 2 > self.ttl_seconds:
            warnings.warn(
                f"cluster_sharing: a lease of {self.ttl_seconds:g} s that is renewed every "
                f"{beat.refresh_seconds:g} s expires if one renewal is late; set ttl_seconds to at "
                "least twice heartbeat.refresh_seconds",
                stacklevel=2,
            )
        return self


def _folded(given: Document) -> Document:
    """Moves top-level fields to `spec` and `metadata`, where KubeRay expects them."""
    flat = {key: value for key, value in given.items() if key in RayClusterSpec.model_fields}
    rest = {key: value for key, value in given.items() if key not in flat}
    if flat:
        spec = dict(rest.get("spec") or {})
        twice = sorted(key for key in flat if spec.get(key) is not None)
        if twice:
            raise ValueError(
                f"{', '.join(twice)}: given both at the top level and in `spec`; remove one"
            )
        rest["spec"] = {**spec, **flat}
    namespace = rest.pop("namespace", None)
    if namespace is not None:
        metadata = dict(rest.get("metadata") or {})
        if metadata.get("namespace") not in (None, namespace):
            raise ValueError(
                f"namespace: given both at the top level ({namespace!r}) and in `metadata` "
                f"({metadata['namespace']!r}); remove one"
            )
        rest["metadata"] = {**metadata, "namespace": namespace}
    return rest


def _check_version(written: str | None, since: Version) -> None:
    required = f"token authentication needs ray_version {since} or later"
    if not written:
        raise ValueError(f"{required}; set ray_version to the Ray version of the image")
    try:
        version = Version(written)
    except InvalidVersion:
        raise ValueError(f"{required}, but {written!r} is not a version") from None
    if version < since:
        raise ValueError(f"{required}, but it is {written}")


def __getattr__(name: str) -> Any:
    if name == "DEFAULT_DEPLOYMENT_NAME":
        return deployment_name()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "DEFAULT_AUTOSCALER_OPTIONS",
    "DEFAULT_CLUSTER_SHARING_TTL_SECONDS",
    "DEFAULT_HEAD_GROUP_SPEC",
    "DEFAULT_WORKER_GROUP_SPECS",
    "MIN_RAY_VERSION_FOR_K8S_TOKEN_AUTH",
    "MIN_RAY_VERSION_FOR_TOKEN_AUTH",
    "AuthOptions",
    "ClusterSharing",
    "ClusterSharingHeartbeat",
    "CollectorOptions",
    "HistoryServerOptions",
    "InteractiveRayJobConfig",
    "InteractiveRayJobSpec",
    "MatchDagsterLabels",
    "NetworkPolicyConfig",
    "RayClusterConfig",
    "RayClusterSpec",
    "RayClusterUpgradeStrategy",
    "RayJobConfig",
    "RayJobSpec",
    "TLSOptions",
    "deployment_name",
    "in_k8s",
]
