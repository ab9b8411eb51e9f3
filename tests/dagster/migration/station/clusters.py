"""The station's Ray: a cluster of its own, a shared one, or Ray on this machine."""

from dagster_ray import LocalRay, RayIOManager, RayResource
from dagster_ray._base.constants import DEFAULT_DEPLOYMENT_NAME, IS_PROD
from dagster_ray._base.utils import get_dagster_tags
from dagster_ray.kuberay import KubeRayInteractiveJob, RayClusterConfig
from dagster_ray.kuberay.resources.base import BaseKubeRayResource
from dagster_ray.kuberay.resources.raycluster import KubeRayCluster, KubeRayClusterClientResource
from dagster_ray.kuberay.resources.rayjob import KubeRayJobClientResource
from dagster_ray.kuberay.utils import k8s_service_fqdn, normalize_k8s_label_values
from dagster_ray.types import AnyDagsterContext
from dagster_ray.utils import get_dagster_run

from . import settings

DOMAIN = "station.example"


class StationCluster(KubeRayCluster):
    """A shared cluster that is reached from outside Kubernetes, under the station's own domain."""

    def resolve_hostname(self, service_name: str, namespace: str) -> str:
        inside = k8s_service_fqdn(service_name, namespace)
        return inside if settings.RUNS_IN_A_POD else f"{service_name}.{namespace}.{DOMAIN}"

    def get_dagster_tags(self, context: AnyDagsterContext) -> dict[str, str]:
        tags = get_dagster_tags(context, extra_tags={"season": "winter"})
        return {**super().get_dagster_tags(context), **tags}

    def get_sharing_label_selector(self, context: AnyDagsterContext) -> str:
        run = get_dagster_run(context)
        labels = normalize_k8s_label_values({"season": "winter", "dagster/job": run.job_name})
        return ",".join(f"{key}={value}" for key, value in labels.items())


class StationJob(KubeRayInteractiveJob):
    """The cluster of one forecast, which KubeRay removes."""

    def get_env_vars_to_inject(self) -> dict[str, str]:
        return {**super().get_env_vars_to_inject(), "STATION_DEPLOYMENT": DEFAULT_DEPLOYMENT_NAME}


def shared_cluster() -> BaseKubeRayResource:
    """Returns the cluster that the steps of a job share."""
    return StationCluster(
        image=settings.IMAGE,
        lifecycle=settings.MANUAL,
        cluster_sharing=settings.SHARING,
        ray_cluster=RayClusterConfig(metadata={"namespace": settings.NAMESPACE}),
        client=KubeRayClusterClientResource(),
        timeout=120.0,
        failure_tolerance_timeout=10.0,
        log_cluster_conditions=True,
    )


def forecast_cluster() -> BaseKubeRayResource:
    """Returns the cluster of a forecast."""
    return StationJob(
        image=settings.IMAGE,
        lifecycle=settings.MANUAL,
        ray_job=settings.forecast_job(),
        client=KubeRayJobClientResource(),
        enable_tracing=True,
        env_vars={"TZ": "UTC"},
    )


def nearby() -> RayResource:
    """Returns Ray on this machine, for development."""
    return LocalRay(ray_init_options={"num_cpus": 2}, data_execution_options=settings.DATA)


def values() -> RayIOManager:
    """Returns the IO manager whose values stay on Ray."""
    return RayIOManager(address="auto" if IS_PROD else None)
