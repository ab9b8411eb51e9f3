"""Clusters and the access to them when something is wrong, on a real control plane."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from cluster import Cluster
from dagster_ray import Lifecycle
from dagster_ray.errors import DagsterRayError
from dagster_ray.kuberay import KubeRayCluster, KubeRayClusterClientResource, RayClusterConfig
from kube_objects import cluster_spec, names
from kubernetes import client
from processes import wait_for

Uses = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def uses(cluster: Cluster, namespace: str) -> Uses:
    """Runs a step that wants a cluster."""

    def run(
        kubeconfig: Path = cluster.kubeconfig, spec: dict[str, Any] | None = None, **more: Any
    ) -> dg.ExecuteInProcessResult:
        resource = KubeRayCluster(
            image=cluster.image,
            lifecycle=Lifecycle(connect=False),
            ray_cluster=RayClusterConfig(
                metadata={"namespace": namespace},
                spec=spec or cluster_spec(cluster),  # type: ignore[arg-type]
            ),
            client=KubeRayClusterClientResource(kube_config=str(kubeconfig)),
            **more,
        )

        @dg.op(required_resource_keys={"ray_cluster"})
        def step() -> None:
            """Nothing: the cluster is all that is wanted."""

        @dg.job(resource_defs={"ray_cluster": resource})
        def job() -> None:
            step()

        return job.execute_in_process()

    return run


def _refusal(uses: Uses, **options: Any) -> str:
    with pytest.raises(dg.DagsterError) as raised:
        uses(**options)
    error = raised.value.__cause__
    assert isinstance(error, DagsterRayError), repr(error)
    return str(error)


def _with_token(cluster: Cluster, token: str, folder: Path) -> Path:
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    for user in config["users"]:
        user["user"] = {"token": token}
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def test_credentials_that_are_not_accepted_are_told(
    cluster: Cluster, uses: Uses, tmp_path: Path
) -> None:
    told = _refusal(uses, kubeconfig=_with_token(cluster, "canary", tmp_path))
    assert told.count("does not accept the credentials") == 1 and "Unauthorized" in told, told
    assert "canary" not in told, "a token in an error"


def test_what_is_forbidden_names_the_rule_to_add(
    cluster: Cluster, namespace: str, uses: Uses, tmp_path: Path
) -> None:
    body = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[]))
    answer = cluster.core.create_namespaced_service_account_token("default", namespace, body)
    told = _refusal(uses, kubeconfig=_with_token(cluster, answer.status.token, tmp_path))
    rule = '{apiGroups: ["ray.io"], resources: ["rayclusters"], verbs: ["create"]}'
    for part in (rule, f"Role in the namespace {namespace}"):
        assert part in told, told


def test_an_operator_that_is_down_is_suspected(
    own_cluster: Cluster, namespace: str, uses: Uses
) -> None:
    own_cluster.stop_program("kuberay-operator")
    try:
        told = _refusal(uses, timeout=5)
    finally:
        own_cluster.start_program("kuberay-operator")
    assert "does its operator run?" in told, told
    wait_for("nothing left", lambda: not names(own_cluster, namespace, "rayclusters"), 30)


def test_a_head_that_is_killed_while_it_is_waited_for_comes_back(
    own_cluster: Cluster, namespace: str, uses: Uses
) -> None:
    def running() -> str | None:
        pods = own_cluster.core.list_namespaced_pod(namespace).items
        return next((pod.metadata.name for pod in pods if pod.status.phase == "Running"), None)

    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(uses)
        own_cluster.kill_containers(namespace, wait_for("the head", running, 30, 0.1))
        assert run.result(120).success


def test_a_head_that_crashes_tells_its_last_words(
    cluster: Cluster, namespace: str, uses: Uses
) -> None:
    spec = {**cluster_spec(cluster), "gcsFaultToleranceOptions": {"redisAddress": "nowhere:1"}}
    told = _refusal(uses, spec=spec, timeout=15)
    for part in ("CrashLoopBackOff", "the last lines of"):
        assert part in told, told


def test_a_manifest_that_kuberay_refuses_is_told_with_its_reason(
    cluster: Cluster, namespace: str, uses: Uses
) -> None:
    spec = {**cluster_spec(cluster), "gcsFaultToleranceOptions": {"redisAddress": "nowhere:1"}}
    spec["headGroupSpec"]["rayStartParams"] = {"redis-password": "x"}
    told = _refusal(uses, spec=spec, timeout=60)
    assert "is refused by KubeRay" in told and "redis-password" in told, told
