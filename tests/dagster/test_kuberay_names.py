"""Names of `dagster-ray` 0.4.8 against what the component writes on a Kubernetes API server."""

from typing import Any

import dagster as dg
import pytest
from cluster import Cluster
from cluster_use import use_cluster
from dagster_ray import Lifecycle
from dagster_ray.kuberay import (
    KubeRayCluster,
    KubeRayClusterClientResource,
    RayClusterClient,
    RayClusterConfig,
    RayClusterSpec,
)
from dagster_ray.kuberay.utils import normalize_k8s_label_values
from kube_objects import cluster_spec

TAGS = {
    "user": "first.last+tag@example.com",
    "path": "__my team//etl@prod__",
    "long": "-" + "x" * 62 + "_tail",
    "dagster.io/user": "u",
}


class Station(KubeRayCluster):
    """A cluster with labels that are no valid values, and with a host name of its own."""

    def get_k8s_labels(self, context: Any) -> dict[str, str]:
        return {**super().get_k8s_labels(context), **TAGS}

    def resolve_hostname(self, service_name: str, namespace: str) -> str:
        return f"{service_name}.{namespace}.example.com"


def _client(cluster: Cluster) -> KubeRayClusterClientResource:
    return KubeRayClusterClientResource(kube_config=str(cluster.kubeconfig))


def test_python_and_the_component_complete_an_object_alike_in_the_default_namespace(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_RAY_NAMESPACE", namespace)
    resource = Station(
        client=_client(cluster),
        image="station:1",
        env_vars={"TZ": "UTC"},
        ray_cluster=RayClusterConfig(spec=RayClusterSpec(suspend=True)),
        lifecycle=Lifecycle(wait=False, cleanup="never"),
    )
    name = use_cluster(resource, lambda one: one.name).output_for_node("uses")
    made = RayClusterClient(str(cluster.kubeconfig)).get(name, namespace)
    labels = made["metadata"]["labels"]
    assert normalize_k8s_label_values(TAGS).items() <= labels.items()
    written = resource.ray_cluster.to_k8s(image="station:1", env_vars={"TZ": "UTC"})["spec"]
    for ours, theirs in (
        (written["headGroupSpec"], made["spec"]["headGroupSpec"]),
        (written["workerGroupSpecs"][0], made["spec"]["workerGroupSpecs"][0]),
    ):
        [own], [other] = (one["template"]["spec"]["containers"] for one in (ours, theirs))
        assert {**other, **own} == other
    [workers] = made["spec"]["workerGroupSpecs"]
    assert (workers["minReplicas"], workers["maxReplicas"]) == (0, 1)


def test_a_host_name_of_a_subclass_replaces_the_port_forward(
    cluster: Cluster, namespace: str
) -> None:
    resource = Station(
        client=_client(cluster),
        image=cluster.image,
        ray_cluster=RayClusterConfig(metadata={"namespace": namespace}, spec=cluster_spec(cluster)),
        lifecycle=Lifecycle(connect=False),
        timeout=240,
    )

    def addresses(ready: KubeRayCluster) -> list[str]:
        return [ready.host, ready.ray_address, ready.dashboard_url, ready.name]

    with dg.DagsterInstance.ephemeral() as instance:
        result = use_cluster(resource, addresses, instance=instance)
        lines = [entry.user_message for entry in instance.all_logs(result.run_id)]
    host, ray_address, dashboard_url, name = result.output_for_node("uses")
    assert host.startswith(name) and host.endswith(f".{namespace}.example.com")
    assert ray_address == f"ray://{host}:10001"
    assert dashboard_url == f"http://{host}:8265"
    service = host.split(".")[0]
    command = f"kubectl -n {namespace} port-forward svc/{service} 8265:8265 10001:10001"
    assert any(command in line for line in lines), lines
