"""Dagster jobs that delete clusters. They need the resource `raycluster_client`."""

from dagster_ray.dagster_typing import job
from dagster_ray.kuberay.ops import cleanup_kuberay_clusters_op, delete_kuberay_clusters_op


@job(name="delete_kuberay_clusters", description="Deletes the selected clusters.")
def delete_kuberay_clusters() -> None:
    delete_kuberay_clusters_op()


@job(
    name="cleanup_old_ray_clusters",
    description="Deletes this deployment's clusters that no live run uses.",
)
def cleanup_old_ray_clusters() -> None:
    cleanup_kuberay_clusters_op()


# The name in earlier releases.
cleanup_kuberay_clusters = cleanup_old_ray_clusters

__all__ = ["cleanup_kuberay_clusters", "cleanup_old_ray_clusters", "delete_kuberay_clusters"]
