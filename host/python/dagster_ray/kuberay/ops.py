"""Ops that delete clusters: selected ones, and expired ones."""

import logging
import os
from collections.abc import Iterable
from datetime import datetime, timezone

import dagster as dg
from pydantic import Field, model_validator

from dagster_ray.configs import (
    DAGSTER_RAY_CLUSTER_EXPIRATION_SECONDS_DEFAULT_VALUE,
    DAGSTER_RAY_CLUSTER_EXPIRATION_SECONDS_ENV_VAR,
)
from dagster_ray.contract import (
    Attributes,
    ClusterClient,
    ClusterInfo,
    ClusterRef,
    Expirations,
    Expiry,
    Query,
)
from dagster_ray.default_namespace import default_namespace
from dagster_ray.deployment import deployment_id
from dagster_ray.errors import ConflictError, DagsterRayError
from dagster_ray.kuberay.client import RayClusterClient
from dagster_ray.specs import attributes

# The label with the id of the deployment that owns a cluster.
_DEPLOYMENT = "dagster-ray/deployment"
# Statuses of runs that may still use their cluster.
LIVE = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.MANAGED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def expiration_seconds() -> int:
    """Returns the age in seconds after which a cluster of an ended run is expired."""
    name = DAGSTER_RAY_CLUSTER_EXPIRATION_SECONDS_ENV_VAR
    return int(os.environ.get(name, DAGSTER_RAY_CLUSTER_EXPIRATION_SECONDS_DEFAULT_VALUE))


class RayClusterRef(dg.Config):
    """The name and namespace of a RayCluster."""

    name: str
    namespace: str | None = Field(default=None, description="Default: the op's namespace.")


class DeleteKubeRayClustersConfig(dg.Config):
    """Which clusters to delete: either a list, or those with matching labels."""

    namespace: str = Field(default_factory=default_namespace)
    match_labels: dict[str, str] | None = None
    clusters: list[RayClusterRef] | None = None
    cluster_names: list[str] | None = Field(
        default=None, description="The form of `clusters` in earlier releases."
    )

    @model_validator(mode="after")
    def _check(self) -> "DeleteKubeRayClustersConfig":
        if bool(self.match_labels) == bool(self.clusters or self.cluster_names):
            raise ValueError("set either `clusters` or `match_labels`")
        return self


class CleanupKubeRayClustersConfig(dg.Config):
    """Which clusters to check."""

    namespace: str = Field(default_factory=default_namespace)
    label_selector: str = Field(
        default="",
        description="A Kubernetes label selector that must match, such as `a=b,c in (d, e)`.",
    )
    labels: dict[str, str] | None = Field(
        default=None, description="More labels that must match. Values may contain a comma."
    )
    older_than_seconds: int = Field(
        default_factory=expiration_seconds,
        description="Age in seconds after which a cluster of an ended run is deleted.",
    )
    dry_run: bool = Field(
        default=False, description="Log what would be deleted and why, and delete nothing."
    )


@dg.op(name="delete_kuberay_clusters_op")
def delete_kuberay_clusters_op(
    context: dg.OpExecutionContext,
    config: DeleteKubeRayClustersConfig,
    raycluster_client: dg.ResourceParam[RayClusterClient],
) -> None:
    """Deletes clusters. It is not an error if one does not exist."""
    refs: list[ClusterRef]
    if config.match_labels:
        labels = attributes(config.match_labels)
        query: Query = {"namespace": config.namespace, "labels": labels, "kind": None}
        clusters = ClusterClient(raycluster_client.backend_for())
        refs = [info["cluster"] for info in clusters.list_(query)]
    else:
        named = [(one.name, one.namespace or config.namespace) for one in config.clusters or []]
        named += [(name, config.namespace) for name in config.cluster_names or []]
        refs = [
            {"name": name, "namespace": namespace, "uid": None, "details": None}
            for name, namespace in named
        ]
    _delete(context, raycluster_client, refs)


@dg.op(name="cleanup_kuberay_clusters_op")
def cleanup_kuberay_clusters_op(
    context: dg.OpExecutionContext,
    config: CleanupKubeRayClustersConfig,
    raycluster_client: dg.ResourceParam[RayClusterClient],
) -> None:
    """Deletes the expired clusters of this deployment, or logs them if `dry_run` is set."""
    found = expired(
        context.instance,
        raycluster_client,
        config.namespace,
        attributes(config.labels or {}),
        config.older_than_seconds,
        config.label_selector,
    )
    log_not_owned(context.log, found["not_owned"])
    if config.dry_run:
        for info in found["expired"]:
            context.log.info(f"Would delete {_label(info['cluster'])}: {_reason(info)}.")
        count = len(found["expired"])
        context.log.info(f"Dry run: nothing is deleted. Expired clusters: {count}.")
        return
    _delete(context, raycluster_client, [info["cluster"] for info in found["expired"]])


def expired(
    instance: dg.DagsterInstance,
    client: RayClusterClient,
    namespace: str,
    labels: Attributes,
    older_than_seconds: int,
    label_selector: str = "",
) -> Expirations:
    """Returns the expired clusters of the instance's deployment, and those that it does not own."""
    live = instance.get_run_ids(dg.RunsFilter(statuses=LIVE))
    selector = label_selector or None
    rule: Expiry = {
        "deployment": deployment_id(instance),
        "query": {"namespace": namespace, "labels": labels, "selector": selector, "kind": None},
        "live_runs": list(live),
        "older_than_s": older_than_seconds,
    }
    return ClusterClient(client.backend_for()).expired(rule)


def log_not_owned(log: logging.Logger, clusters: Iterable[ClusterInfo]) -> None:
    """Logs which clusters a cleanup leaves alone because another deployment may need them."""
    for info in clusters:
        owner = dict(info["labels"]).get(_DEPLOYMENT)
        reason = (
            f"it belongs to the deployment {owner}"
            if owner
            else f"it has no label {_DEPLOYMENT}, so it may belong to another deployment"
        )
        log.info(f"Left {_label(info['cluster'])} alone: {reason}.")


def _label(ref: ClusterRef) -> str:
    return f"{ref['namespace']}/{ref['name']}"


def _reason(info: ClusterInfo) -> str:
    """Returns why a cluster is expired."""
    run_id = dict(info["labels"]).get("dagster/run-id", "unknown")
    created = datetime.fromtimestamp(info["created_at"], timezone.utc).isoformat()
    holders = ", ".join(info["holders"]) or "none"
    return f"no live run needs it (run: {run_id}, created: {created}, holders: {holders})"


def _delete(
    context: dg.OpExecutionContext, client: RayClusterClient, refs: Iterable[ClusterRef]
) -> None:
    """Deletes all clusters, and fails at the end if one could not be deleted."""
    failed: list[str] = []
    for ref in refs:
        label = _label(ref)
        try:
            was_there = ClusterClient(client.backend_for()).delete(ref)
            context.log.info(f"Deleted {label}." if was_there else f"{label} is gone already.")
        except ConflictError as error:
            # The cluster came into use after it was found.
            context.log.info(f"Kept {label}: {error}")
        except DagsterRayError as error:
            context.log.error(f"{label} could not be deleted: {error}")
            failed.append(label)
    if failed:
        raise dg.Failure(f"these clusters could not be deleted: {', '.join(failed)}")


__all__ = [
    "CleanupKubeRayClustersConfig",
    "DeleteKubeRayClustersConfig",
    "RayClusterRef",
    "cleanup_kuberay_clusters_op",
    "delete_kuberay_clusters_op",
]
