"""Configuration classes for KubeRay's custom resources, with snake_case or KubeRay's field names.

A manifest contains only the fields that the user set. The component adds the others.
"""

import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from packaging.version import InvalidVersion, Version
from pydantic import Field, model_validator

from dagster_ray.cluster_defaults import JOIN_TIMEOUT_SECONDS, LEASE_TTL_SECONDS
from dagster_ray.dagster_typing import NestedConfig, PermissiveNestedConfig

# A part of a Kubernetes object whose fields KubeRay defines.
Document: TypeAlias = dict[str, Any]

_TOKEN_SINCE = Version("2.52.0")
_KUBERNETES_TOKEN_SINCE = Version("2.55.0")
# Fields whose KubeRay name is not the camelCase form of their Python name.
_SPELLED = {"runtime_env_yaml": "runtimeEnvYAML", "runtimeEnvYaml": "runtimeEnvYAML"}

in_k8s = "KUBERNETES_SERVICE_HOST" in os.environ
"""Whether this process runs in a pod."""


def deployment_name() -> str:
    """Returns the Dagster+ deployment or branch of this process, or `dev` outside Dagster+."""
    if os.environ.get("DAGSTER_CLOUD_IS_BRANCH_DEPLOYMENT") == "1":
        branch = os.environ.get("DAGSTER_CLOUD_GIT_BRANCH")
        if branch:
            return branch
    return os.environ.get("DAGSTER_CLOUD_DEPLOYMENT_NAME") or "dev"


class _Part(PermissiveNestedConfig):
    """A part of a manifest. Fields that are not listed are passed on to KubeRay."""

    def __init__(self, **given: Any) -> None:
        # Map KubeRay's field names to the Python names, so that the same validation applies.
        ours = {_key(name): name for name in type(self).model_fields}
        found: Document = {}
        for name, value in given.items():
            own = ours.get(_key(name), _key(name))
            # Dagster adds defaults under the Python names.
            if value != found.get(own) and None not in (value, found.get(own)):
                raise ValueError(
                    f"{_key(name)} is given twice, in two spellings and with different values; "
                    "keep one"
                )
            if found.get(own) is None:
                found[own] = value
        super().__init__(**found)

    def document(self) -> Document:
        """Returns the set fields under KubeRay's names."""
        return {
            _key(name): value.document() if isinstance(value, _Part) else value
            for name, value in dict(self).items()
            if value is not None
        }


class AuthOptions(_Part):
    """How clients authenticate to a cluster."""

    mode: Literal["token", "disabled"] = "token"
    secret_name: str | None = None
    enable_k8s_token_auth: bool | None = None


class RayClusterUpgradeStrategy(_Part):
    """What KubeRay does with a cluster when its manifest changes."""

    type: Literal["Recreate", "None"]


class RayClusterSpec(_Part):
    """The spec of a RayCluster."""

    suspend: bool | None = None
    managed_by: str | None = None
    autoscaler_options: Document | None = None
    head_service_annotations: dict[str, str] | None = None
    enable_in_tree_autoscaling: bool | None = None
    gcs_fault_tolerance_options: Document | None = None
    head_group_spec: Document | None = None
    ray_version: str | None = None
    worker_group_specs: list[Document] | None = None
    auth_options: AuthOptions | None = None
    upgrade_strategy: RayClusterUpgradeStrategy | None = None

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
            since = _KUBERNETES_TOKEN_SINCE if by_kubernetes else _TOKEN_SINCE
            _check_version(self.ray_version, since)
        return self


class RayJobSpec(_Part):
    """The spec of a RayJob."""

    active_deadline_seconds: int | None = None
    pre_running_deadline_seconds: int | None = None
    backoff_limit: int | None = None
    ray_cluster_spec: RayClusterSpec | None = None
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


class InteractiveRayJobSpec(RayJobSpec):
    """The spec of a RayJob whose driver is not started by KubeRay."""

    submission_mode: Literal["InteractiveMode"] = "InteractiveMode"  # type: ignore[assignment]


class RayClusterConfig(NestedConfig):
    """A RayCluster. Fields of its spec may also be written at the top level."""

    kind: str = "RayCluster"
    api_version: str = "ray.io/v1"
    metadata: Document = Field(default_factory=dict)
    spec: RayClusterSpec = Field(default_factory=RayClusterSpec)
    image: str | None = Field(default=None, description="The image of containers without one.")

    def __init__(self, **given: Any) -> None:
        initialize: Callable[..., None] = super().__init__
        initialize(**_folded(given))

    @property
    def namespace(self) -> str | None:
        """The namespace in the metadata."""
        return self.metadata.get("namespace")

    def manifest(self) -> Document:
        """Returns the set fields of the manifest under KubeRay's names."""
        return _manifest(self.metadata, self.spec)


class RayJobConfig(NestedConfig):
    """A RayJob."""

    kind: str = "RayJob"
    api_version: str = "ray.io/v1"
    metadata: Document = Field(default_factory=dict)
    spec: RayJobSpec = Field(default_factory=RayJobSpec)

    @property
    def namespace(self) -> str | None:
        """The namespace in the metadata."""
        return self.metadata.get("namespace")

    def manifest(self) -> Document:
        """Returns the set fields of the manifest under KubeRay's names."""
        return _manifest(self.metadata, self.spec)


class InteractiveRayJobConfig(RayJobConfig):
    """A RayJob whose driver is not started by KubeRay."""

    spec: InteractiveRayJobSpec = Field(  # type: ignore[assignment]
        default_factory=InteractiveRayJobSpec
    )


class MatchDagsterLabels(NestedConfig):
    """Which Dagster labels a shared cluster must have to be joined."""

    cluster_sharing: bool = True
    code_location: bool = True
    resource_key: bool = True
    git_sha: bool = True
    run_id: bool = False


class ClusterSharingHeartbeat(NestedConfig):
    """How often the lease on a shared cluster is renewed."""

    enabled: bool = True
    refresh_seconds: float = 10.0


class ClusterSharing(NestedConfig):
    """Whether and how steps share a cluster."""

    enabled: bool = False
    match_dagster_labels: MatchDagsterLabels = Field(default_factory=MatchDagsterLabels)
    match_labels: dict[str, str] | None = None
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


def _manifest(metadata: Mapping[str, object], spec: _Part) -> Document:
    given = {key: value for key, value in metadata.items() if value is not None}
    return {"metadata": given, "spec": spec.document()}


def _key(name: str) -> str:
    """Returns KubeRay's name of a field."""
    if name in _SPELLED:
        return _SPELLED[name]
    head, *rest = name.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in rest)


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
