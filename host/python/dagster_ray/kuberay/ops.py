"""Ops that remove clusters: those that are named, and those that nobody needs any more."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg
from pydantic import Field, model_validator

from dagster_ray.configs import DAGSTER_RAY_CLUSTER_EXPIRATION_SECONDS_ENV_VAR
from dagster_ray.errors import ConflictError, DagsterRayError
from dagster_ray.kuberay.client import RayClusterClient, labels_of

_EXPIRATION_SECONDS = "14400"
# Every status of a run that may still need its cluster.
LIVE = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.MANAGED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def expiration_seconds() -> int:
    """Seconds after which a cluster of a run that is over is given up."""
    name = DAGSTER_RAY_CLUSTER_EXPIRATION_SECONDS_ENV_VAR
    return int(os.environ.get(name, _EXPIRATION_SECONDS))


class RayClusterRef(dg.Config):
    """A RayCluster by its name."""

    name: str
    namespace: str | None = Field(default=None, description="Default: the op's.")


class DeleteKubeRayClustersConfig(dg.Config):
    """Which clusters to remove: those of a list, or those that have some labels."""

    namespace: str = "ray"
    match_labels: dict[str, str] | None = None
    clusters: list[RayClusterRef] | None = None
    cluster_names: list[str] | None = Field(
        default=None, description="`clusters`, as earlier releases have it."
    )

    @model_validator(mode="after")
    def _check(self) -> "DeleteKubeRayClustersConfig":
        if bool(self.match_labels) == bool(self.clusters or self.cluster_names):
            raise ValueError("write either `clusters` or `match_labels`, and not both")
        return self


class CleanupKubeRayClustersConfig(dg.Config):
    """Which clusters to look at."""

    namespace: str = "ray"
    label_selector: str = Field(default="", description="Labels that must match: `a=b,c=d`.")
    labels: dict[str, str] | None = Field(
        default=None, description="Labels that must match too, where a value may hold a comma."
    )
    older_than_seconds: int = Field(
        default_factory=expiration_seconds,
        description="Seconds after which a cluster of a run that is over is given up.",
    )


@dg.op(name="delete_kuberay_clusters_op")
def delete_kuberay_clusters_op(
    context: dg.OpExecutionContext,
    config: DeleteKubeRayClustersConfig,
    raycluster_client: dg.ResourceParam[RayClusterClient],
) -> None:
    """Removes clusters. One that is gone already is no error."""
    kuberay = raycluster_client.backend_for()
    if config.match_labels:
        labels = [*map(list, config.match_labels.items())]
        query = {"namespace": config.namespace, "labels": labels, "kind": None}
        refs = [info["cluster"] for info in kuberay.call("cluster.list", {"query": query})]
    else:
        named = [(one.name, one.namespace or config.namespace) for one in config.clusters or []]
        named += [(name, config.namespace) for name in config.cluster_names or []]
        blank = {"uid": None, "details": None}
        refs = [{"name": name, "namespace": namespace, **blank} for name, namespace in named]
    _delete(context, raycluster_client, refs)


@dg.op(name="cleanup_kuberay_clusters_op")
def cleanup_kuberay_clusters_op(
    context: dg.OpExecutionContext,
    config: CleanupKubeRayClustersConfig,
    raycluster_client: dg.ResourceParam[RayClusterClient],
) -> None:
    """Removes the clusters that no run needs any more."""
    labels = [*labels_of(config.label_selector), *map(list, (config.labels or {}).items())]
    found = expired(
        context.instance, raycluster_client, config.namespace, labels, config.older_than_seconds
    )
    _delete(context, raycluster_client, [info["cluster"] for info in found])


def expired(
    instance: dg.DagsterInstance,
    client: RayClusterClient,
    namespace: str,
    labels: list[list[str]],
    older_than_seconds: int,
) -> list[dict[str, Any]]:
    """What is known of the clusters that nobody needs any more."""
    live = instance.get_run_ids(dg.RunsFilter(statuses=LIVE))
    rule = {
        "query": {"namespace": namespace, "labels": labels, "kind": None},
        "live_runs": list(live),
        "older_than_s": older_than_seconds,
    }
    return client.backend_for().call("cluster.expired", {"rule": rule})


def _delete(
    context: dg.OpExecutionContext, client: RayClusterClient, refs: Iterable[Mapping[str, Any]]
) -> None:
    """Tries all of them, and fails in the end where one could not be removed."""
    failed: list[str] = []
    for ref in refs:
        label = f"{ref['namespace']}/{ref['name']}"
        try:
            was_there = client.backend_for().call("cluster.delete", {"cluster": ref})
            context.log.info(f"Deleted {label}." if was_there else f"{label} is gone already.")
        except ConflictError as error:
            # Somebody uses it since it was found.
            context.log.info(f"Kept {label}: {error}")
        except DagsterRayError as error:
            context.log.error(f"{label} could not be deleted: {error}")
            failed.append(label)
    if failed:
        raise dg.Failure(f"could not be deleted: {', '.join(failed)}")


__all__ = [
    "CleanupKubeRayClustersConfig",
    "DeleteKubeRayClustersConfig",
    "RayClusterRef",
    "cleanup_kuberay_clusters_op",
    "delete_kuberay_clusters_op",
]
