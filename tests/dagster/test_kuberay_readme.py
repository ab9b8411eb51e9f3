"""The examples that need KubeRay, of the pages and of the README of PyPI's `dagster-ray`.

The tests provide what the examples assume: a namespace `ray`, and an image in the run tag
`dagster/image`.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from cluster import Cluster
from dagster_ray import LocalRay, RayResource
from dagster_ray.kuberay import (
    KubeRayCluster,
    RayClusterClient,
    cleanup_kuberay_clusters_daily,
    cleanup_old_ray_clusters_schedule,
)
from document_blocks import page, seed, seed_block
from kube_objects import cluster_spec, make_cluster, names
from kubernetes import client
from processes import wait_for

PIPES = seed_block("kuberay_pipes.py.txt")
PIPES_SCRIPT = seed_block("kuberay_pipes_script.py.txt")


def _executed(text: str, **space: Any) -> dict[str, Any]:
    exec(compile(text, "printed_example.py", "exec"), space)
    return space


@pytest.fixture
def ray(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    _with_namespace(cluster, "ray")
    yield "ray"

    def remaining() -> list[str]:
        # KubeRay deletes the cluster of a script's RayJob after that job's ttl.
        found = names(cluster, "ray", "rayclusters")
        return [name for name in found if not name.startswith("dg-script-")]

    wait_for("the deletion of the clusters", lambda: not remaining(), 30)


def _with_namespace(cluster: Cluster, name: str) -> None:
    try:
        cluster.core.create_namespace({"metadata": {"name": name}})
    except client.ApiException as error:
        if error.status != 409:
            raise
    wait_for(
        "the service account",
        lambda: cluster.core.list_namespaced_service_account(name).items,
    )


@page("docs/how-to/kuberay.md", "A cluster for one step", "python")
def test_the_pages_cluster_example(cluster: Cluster, ray: str, printed: str) -> None:
    # On the tests' own cluster the image makes no difference; another cluster pulls it.
    assert f'"{cluster.image}"' in printed or not cluster.is_own
    job = _executed(printed)["defs"].resolve_implicit_global_asset_job_def()
    assert job.execute_in_process().output_for_node("answer") == 42


@page("docs/how-to/kuberay.md", "One code base", "python")
def test_only_production_creates_a_cluster(printed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    in_development = _executed(printed)["defs"].resources["ray_cluster"]
    assert isinstance(in_development, LocalRay)
    monkeypatch.setenv("STAGE", "production")
    in_production = _executed(printed)["defs"].resources["ray_cluster"]
    assert isinstance(in_production, KubeRayCluster)
    assert in_production.image == "rayproject/ray:2.60.0"


@page("docs/how-to/share-a-cluster.md", "Steps of several runs", "python")
def test_two_steps_share_a_cluster(cluster: Cluster, ray: str, printed: str) -> None:
    assert f'"{cluster.image}"' in printed or not cluster.is_own
    job = _executed(printed)["defs"].resolve_implicit_global_asset_job_def()
    result = job.execute_in_process()
    assert result.output_for_node("two") == 2


@seed("kuberay_cluster.py.txt", "kuberay_or_local.py.txt")
def test_the_asset_on_a_cluster_example(cluster: Cluster, ray: str, printed: str) -> None:
    definitions = _executed(printed)["definitions"]
    job = definitions.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(tags={"dagster/image": cluster.image})
    assert result.output_for_node("my_asset") == 42


@seed("kuberay_client.py.txt")
def test_the_client_example_lists_clusters(
    cluster: Cluster, printed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    _with_namespace(cluster, "kuberay")
    space = _executed(printed)

    @dg.job
    def lists() -> None:
        space["list_ray_clusters"]()

    make_cluster(cluster, "kuberay", "listed", {})
    try:
        resources = {"kube_ray_client": space["KubeRayClient"]()}
        result = lists.execute_in_process(resources=resources)
        items = result.output_for_node("list_ray_clusters")["items"]
        assert [item["metadata"]["name"] for item in items] == ["listed"]
    finally:
        RayClusterClient().delete("listed", "kuberay")
    assert RayClusterClient().get("absent", "kuberay") == {}


@pytest.mark.nightly
@pytest.mark.timeout(300)
@seed("kuberay_autoscaling.py.txt")
def test_the_autoscaling_example_gets_workers(cluster: Cluster, ray: str, printed: str) -> None:
    resource: KubeRayCluster = _executed(printed)["ray_cluster"]

    @dg.asset
    def workers(ray_cluster: RayResource) -> int:
        import ray

        wait_for("the workers", lambda: len(ray.nodes()) >= 2, 200, 1)
        return len(ray.nodes())

    definitions = dg.Definitions([workers], resources={"ray_cluster": resource})
    job = definitions.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(tags={"dagster/image": cluster.image})
    assert result.output_for_node("workers") >= 2


@pytest.mark.timeout(200)
def test_the_pipes_example_reports_metadata(cluster: Cluster, ray: str, tmp_path: Path) -> None:
    script = tmp_path / "my_script.py"
    script.write_text(PIPES_SCRIPT)
    spec = cluster_spec(cluster, tmp_path)
    text = PIPES
    # The example has placeholders for the script's path and the cluster's groups.
    for printed, actual in {
        "python /app/my_script.py": f"{sys.executable} {script}",
        '"headGroupSpec": {...}': f'"headGroupSpec": {spec["headGroupSpec"]!r}',
        "[...]": "[]",
    }.items():
        assert printed in text
        text = text.replace(printed, actual)
    job = _executed(text)["definitions"].resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(tags={"dagster/image": cluster.image})
    [event] = result.asset_materializations_for_node("my_asset")
    assert event.metadata["some_metric"].value == 57
    assert event.tags["dagster/data_version"] == "alpha"


def test_the_schedule_runs_the_cleanup_job() -> None:
    repository = dg.Definitions(
        schedules=[cleanup_kuberay_clusters_daily], resources={"raycluster_client": object()}
    ).get_repository_def()
    assert repository.has_job("cleanup_old_ray_clusters")
    assert cleanup_kuberay_clusters_daily.cron_schedule == "0 0 * * *"
    # Earlier releases call the schedule by this name.
    assert cleanup_old_ray_clusters_schedule is cleanup_kuberay_clusters_daily
