"""A sensor that has clusters removed soon after nobody needs them any more."""

import os
from collections.abc import Iterator

import dagster as dg

from dagster_ray.configs import DAGSTER_RAY_NAMESPACES_ENV_VAR
from dagster_ray.kuberay.client import RayClusterClient
from dagster_ray.kuberay.jobs import delete_kuberay_clusters
from dagster_ray.kuberay.ops import DeleteKubeRayClustersConfig, expiration_seconds, expired

_EVERY_SECONDS = 300
_CODE_LOCATION = "dagster/code-location"


@dg.sensor(
    job=delete_kuberay_clusters,
    minimum_interval_seconds=_EVERY_SECONDS,
    default_status=dg.DefaultSensorStatus.STOPPED,
)
def cleanup_expired_kuberay_clusters(
    context: dg.SensorEvaluationContext, raycluster_client: dg.ResourceParam[RayClusterClient]
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Asks for one run for each namespace that has such clusters."""
    namespaces = os.environ.get(DAGSTER_RAY_NAMESPACES_ENV_VAR, "ray").split(",")
    location = context.code_location_origin
    labels = [[_CODE_LOCATION, location.location_name]] if location else []
    nothing = True
    for namespace in filter(None, map(str.strip, namespaces)):
        found = expired(
            context.instance, raycluster_client, namespace, labels, expiration_seconds()
        )
        refs = [
            {"name": info["cluster"]["name"], "namespace": info["cluster"]["namespace"]}
            for info in found
        ]
        if refs:
            nothing = False
            config = DeleteKubeRayClustersConfig(namespace=namespace, clusters=refs)  # type: ignore[arg-type]
            yield dg.RunRequest(
                run_config=dg.RunConfig({"delete_kuberay_clusters_op": config}),
            )
    if nothing:
        yield dg.SkipReason("No cluster is left over.")


__all__ = ["cleanup_expired_kuberay_clusters"]
