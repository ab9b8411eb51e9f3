"""A sensor that requests the deletion of expired clusters."""

import os
from collections.abc import Iterator

import dagster as dg

from dagster_ray.configs import DAGSTER_RAY_NAMESPACES_ENV_VAR
from dagster_ray.dagster_typing import sensor
from dagster_ray.default_namespace import default_namespace
from dagster_ray.errors import DagsterRayError
from dagster_ray.kuberay.client import RayClusterClient
from dagster_ray.kuberay.jobs import cleanup_old_ray_clusters
from dagster_ray.kuberay.ops import LIVE, CleanupKubeRayClustersConfig, expired, log_not_owned
from dagster_ray.specs import attributes

_EVERY_SECONDS = 300
_CODE_LOCATION = "dagster/code-location"
# The run tag that identifies the cleanup runs of one namespace and code location.
_CLEANS = "dagster-ray/cleans"


@sensor(
    job=cleanup_old_ray_clusters,
    minimum_interval_seconds=_EVERY_SECONDS,
    default_status=dg.DefaultSensorStatus.STOPPED,
)
def cleanup_expired_kuberay_clusters(
    context: dg.SensorEvaluationContext, raycluster_client: dg.ResourceParam[RayClusterClient]
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Requests one cleanup run for each namespace that has expired clusters.

    The run searches for expired clusters again: before it starts, a cluster may be in use again, or
    another cluster may have its name.
    """
    namespaces = os.environ.get(DAGSTER_RAY_NAMESPACES_ENV_VAR, default_namespace()).split(",")
    origin = context.code_location_origin
    labels = {_CODE_LOCATION: origin.location_name} if origin else {}
    requested = False
    failed: DagsterRayError | None = None
    stripped = [namespace.strip() for namespace in namespaces]
    for namespace in dict.fromkeys(namespace for namespace in stripped if namespace):
        tags = {_CLEANS: f"{namespace} {labels.get(_CODE_LOCATION, '')}".strip()}
        if context.instance.get_run_ids(dg.RunsFilter(statuses=LIVE, tags=tags), limit=1):
            continue
        config = CleanupKubeRayClustersConfig(namespace=namespace, labels=labels)
        try:
            found = expired(
                context.instance,
                raycluster_client,
                namespace,
                attributes(labels),
                config.older_than_seconds,
            )
        except DagsterRayError as error:
            # A namespace that cannot be read must not block the cleanup of the others.
            context.log.error(f"The clusters of namespace {namespace} could not be listed: {error}")
            failed = failed or error
            continue
        log_not_owned(context.log, found["not_owned"])
        if found["expired"]:
            requested = True
            yield dg.RunRequest(
                run_config=dg.RunConfig({"cleanup_kuberay_clusters_op": config}), tags=tags
            )
    if requested:
        return
    if failed is not None:
        raise failed
    yield dg.SkipReason("No cluster has expired, or a cleanup run is in progress.")


__all__ = ["cleanup_expired_kuberay_clusters"]
