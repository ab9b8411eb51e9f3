"""Jobs that remove clusters. They need a resource of the key `raycluster_client`."""

import dagster as dg

from dagster_ray.kuberay.ops import cleanup_kuberay_clusters_op, delete_kuberay_clusters_op


@dg.job(name="delete_kuberay_clusters", description="Removes the clusters that are named.")
def delete_kuberay_clusters() -> None:
    delete_kuberay_clusters_op()


@dg.job(
    name="cleanup_old_ray_clusters", description="Removes the clusters that no run needs any more."
)
def cleanup_old_ray_clusters() -> None:
    cleanup_kuberay_clusters_op()


# The name of earlier releases.
cleanup_kuberay_clusters = cleanup_old_ray_clusters

__all__ = ["cleanup_kuberay_clusters", "cleanup_old_ray_clusters", "delete_kuberay_clusters"]
