"""The README's examples for KubeRay, as printed.

What the text around them says is done here: there is a namespace `ray`, and the run tag
`dagster/image` names an image.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from cluster import Cluster
from dagster_ray import RayResource
from dagster_ray.kuberay import KubeRayCluster, RayClusterClient, cleanup_kuberay_clusters_daily
from kube_objects import cluster_spec, names
from kubernetes import client
from processes import wait_for

README = Path(__file__).parent / "readme"


def _example(name: str) -> dict[str, Any]:
    space: dict[str, Any] = {}
    text = (README / f"{name}.py.txt").read_text()
    exec(compile(text, f"{name}_example.py", "exec"), space)
    return space


@pytest.fixture
def ray(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    with_namespace(cluster, "ray")
    yield "ray"
    wait_for("nothing of ours", lambda: not names(cluster, "ray", "rayclusters"), 30)


def with_namespace(cluster: Cluster, name: str) -> None:
    try:
        cluster.core.create_namespace({"metadata": {"name": name}})
    except client.ApiException as error:
        if error.status != 409:
            raise
    wait_for(
        "the service account",
        lambda: cluster.core.list_namespaced_service_account(name).items,
    )


@pytest.mark.parametrize("name", ["kuberay_cluster", "kuberay_or_local"])
def test_an_asset_on_a_cluster(cluster: Cluster, ray: str, name: str) -> None:
    definitions = _example(name)["definitions"]
    job = definitions.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(tags={"dagster/image": cluster.image})
    assert result.output_for_node("my_asset") == 42


def test_the_client_lists_clusters(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    with_namespace(cluster, "kuberay")
    space = _example("kuberay_client")

    @dg.job
    def lists() -> None:
        space["list_ray_clusters"]()

    made = RayClusterClient().create(
        {
            "metadata": {"name": "listed"},
            "spec": {"suspend": True, **_with_image(cluster, cluster_spec(cluster))},
        },
        "kuberay",
    )
    try:
        resources = {"kube_ray_client": space["KubeRayClient"]()}
        result = lists.execute_in_process(resources=resources)
        items = result.output_for_node("list_ray_clusters")["items"]
        assert [item["metadata"]["name"] for item in items] == ["listed"]
    finally:
        RayClusterClient().delete(made["metadata"]["name"], "kuberay")
    assert RayClusterClient().get("nobody", "kuberay") == {}


def _with_image(cluster: Cluster, spec: dict[str, Any]) -> dict[str, Any]:
    spec["headGroupSpec"]["template"]["spec"]["containers"][0]["image"] = cluster.image
    return spec


@pytest.mark.timeout(300)
def test_an_autoscaling_cluster_gets_workers(
    cluster: Cluster, ray: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource: KubeRayCluster = _example("kuberay_autoscaling")["ray_cluster"]

    @dg.asset
    def workers(ray_cluster: RayResource) -> int:
        import ray

        wait_for("the workers", lambda: len(ray.nodes()) >= 2, 200, 1)
        return len(ray.nodes())

    definitions = dg.Definitions([workers], resources={"ray_cluster": resource})
    job = definitions.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(tags={"dagster/image": cluster.image})
    assert result.output_for_node("workers") >= 2


def test_the_schedule_asks_for_the_cleanup() -> None:
    repository = dg.Definitions(
        schedules=[cleanup_kuberay_clusters_daily], resources={"raycluster_client": object()}
    ).get_repository_def()
    assert repository.has_job("cleanup_old_ray_clusters")
    assert cleanup_kuberay_clusters_daily.cron_schedule == "0 0 * * *"
