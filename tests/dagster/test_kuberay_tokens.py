"""Token authentication of RayClusters (`authOptions`) on a real Kubernetes control plane."""

import os
import sys
import textwrap
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from cluster import Cluster
from cluster_use import use_cluster
from dagster_ray.errors import BackendError
from dagster_ray.kuberay import (
    KubeRayCluster,
    KubeRayClusterClientResource,
    PipesKubeRayJobClient,
    RayClusterConfig,
    RayJobClient,
)
from kube_objects import account_kubeconfig, cluster_spec, role_rules

# The rule for clusters with tokens.
SECRETS: dict[str, Any] = role_rules(outside=False, tokens=True)[-1]


def _spec(cluster: Cluster, shared: Path | None = None) -> dict[str, Any]:
    return {**cluster_spec(cluster, shared), "authOptions": {"mode": "token"}}


def _kubeconfig(cluster: Cluster, namespace: str, folder: Path, *more: dict[str, Any]) -> str:
    rules = [*role_rules(outside=True), *more]
    return str(account_kubeconfig(cluster, namespace, "dagster", rules, folder))


@pytest.mark.timeout(200)
def test_ray_client_and_the_jobs_api_use_the_clusters_token(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    client = KubeRayClusterClientResource(
        kube_config=_kubeconfig(cluster, namespace, tmp_path, SECRETS)
    )
    config = RayClusterConfig(metadata={"namespace": namespace}, spec=_spec(cluster))
    resource = KubeRayCluster(image=cluster.image, ray_cluster=config, client=client)

    def body(resource: KubeRayCluster) -> tuple[int, bool]:
        import ray

        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{resource.dashboard_url}/api/jobs/", timeout=30)
        assert refused.value.code == 401, "the cluster wants no token"
        with client.client.job_submission_client(resource.name, namespace) as jobs:
            is_list = isinstance(jobs.list_jobs(), list)
        return ray.get(ray.put(7)), is_list

    before = {name: os.environ.get(name) for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
    assert use_cluster(resource, body).output_for_node("uses") == (7, True)
    assert {name: os.environ.get(name) for name in before} == before


SCRIPT = """
    from dagster_pipes import open_dagster_pipes

    with open_dagster_pipes() as context:
        context.report_custom_message("authenticated")
"""


def _run_script(client: PipesKubeRayJobClient, cluster: Cluster, **ray_job: Any) -> list[Any]:
    custom: list[Any] = []

    @dg.op
    def scripted(context: dg.OpExecutionContext) -> None:
        done = client.run(context=context, ray_job=ray_job)
        custom.extend(done.get_custom_messages())

    @dg.job
    def scripts() -> None:
        scripted()

    scripts.execute_in_process(tags={"dagster/image": cluster.image})
    return custom


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_the_output_of_a_script_is_read_with_the_clusters_token(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    file = tmp_path / "script.py"
    file.write_text(textwrap.dedent(SCRIPT))
    spec = {
        "entrypoint": f"{sys.executable} {file}",
        "rayClusterSpec": _spec(cluster, tmp_path),
    }
    ray_job = {"metadata": {"namespace": namespace}, "spec": spec}
    allowed = _kubeconfig(cluster, namespace, tmp_path, SECRETS)
    client = PipesKubeRayJobClient(RayJobClient(kube_config=allowed))
    assert _run_script(client, cluster, **ray_job) == ["authenticated"]


@pytest.mark.timeout(200)
def test_a_missing_permission_for_the_token_is_named(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    client = KubeRayClusterClientResource(kube_config=_kubeconfig(cluster, namespace, tmp_path))
    config = RayClusterConfig(metadata={"namespace": namespace}, spec=_spec(cluster))
    resource = KubeRayCluster(image=cluster.image, ray_cluster=config, client=client)
    with pytest.raises(dg.DagsterError) as raised:
        use_cluster(resource)
    assert isinstance(raised.value.__cause__, BackendError)
    assert "resources: [secrets], verbs: [get]" in str(raised.value.__cause__)
