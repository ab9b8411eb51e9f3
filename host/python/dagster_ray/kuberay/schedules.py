"""A schedule that deletes expired clusters every night."""

import dagster as dg

from dagster_ray.kuberay.jobs import cleanup_old_ray_clusters

cleanup_kuberay_clusters_daily = dg.ScheduleDefinition(
    name="cleanup_old_ray_clusters_daily", job=cleanup_old_ray_clusters, cron_schedule="0 0 * * *"
)

# The name in earlier releases.
cleanup_old_ray_clusters_schedule = cleanup_kuberay_clusters_daily

__all__ = ["cleanup_kuberay_clusters_daily", "cleanup_old_ray_clusters_schedule"]
