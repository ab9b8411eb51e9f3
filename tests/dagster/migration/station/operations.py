"""What the station's operator does with clusters and jobs, by hand."""

from collections.abc import Iterator
from typing import Any

from dagster_ray.kuberay.client import RayClusterClient, RayJobClient
from dagster_ray.kuberay.client.base import BaseKubeRayClient
from dagster_ray.kuberay.client.raycluster import RayClusterStatus
from dagster_ray.kuberay.client.raycluster.client import RayClusterEndpoints, RayClusterHead
from dagster_ray.kuberay.client.rayjob.client import GROUP, KIND, PLURAL, VERSION, RayJobStatus

from .settings import NAMESPACE

API_VERSION = f"{GROUP}/{VERSION}"
OBJECT = f"{PLURAL}/{KIND}"


def clients(kube_config: str | None) -> tuple[RayClusterClient, RayJobClient]:
    """Returns the clients for a kubeconfig."""
    return RayClusterClient(kube_config=kube_config), RayJobClient(kube_config=kube_config)


def names(client: BaseKubeRayClient[Any], season: str) -> list[str]:
    """Returns the names of the station's objects of a season."""
    found = client.list(namespace=NAMESPACE, label_selector=f"season={season}")
    return [item["metadata"]["name"] for item in found.get("items", [])]


def head_of(client: RayClusterClient, name: str) -> tuple[RayClusterHead, RayClusterEndpoints]:
    """Returns the head and the ports of a cluster that is ready."""
    _, endpoints = client.wait_until_ready(
        name, NAMESPACE, timeout=120, failure_tolerance_timeout=10, poll_interval=1.0
    )
    status: RayClusterStatus = client.get_status(name, NAMESPACE, timeout=10, poll_interval=0.5)
    return status.get("head", {}), endpoints


def start(client: RayJobClient, manifest: dict[str, Any], timeout: float) -> str:
    """Creates a RayJob, waits until it runs, and returns the name of its cluster."""
    name = manifest["metadata"]["name"]
    client.create(body=manifest, namespace=NAMESPACE)
    client.wait_until_exists(name, NAMESPACE, timeout=timeout, poll_interval=0.5)
    client.wait_until_running(name, NAMESPACE, timeout=timeout, terminate_on_timeout=False)
    return client.get_ray_cluster_name(name, NAMESPACE, timeout=timeout, poll_interval=0.5)


def watch(client: RayJobClient, name: str) -> Iterator[str]:
    """Yields the output of a job, and fails with KubeRay's reason if it failed."""
    status: RayJobStatus = client.get_status(name, NAMESPACE, timeout=60)
    client.raise_if_deployment_failed(name, NAMESPACE, status)
    yield from client.tail_job_logs(name, NAMESPACE, timeout=60, port_forward=True)


def stop(client: RayJobClient, name: str) -> bool:
    """Stops a job, and removes it."""
    stopped = client.terminate(name, NAMESPACE, timeout=10, port_forward=True)
    patch = [{"op": "add", "path": "/metadata/labels", "value": {"season": "over"}}]
    client.update_json_patch(name, NAMESPACE, patch)
    client.delete(name, NAMESPACE)
    return stopped
