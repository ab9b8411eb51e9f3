"""Errors and outages of clusters and credentials, on a real Kubernetes control plane."""

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from cluster import Cluster
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._utils.interrupts import capture_interrupts
from dagster_ray import Lifecycle
from dagster_ray.errors import DagsterRayError
from dagster_ray.kuberay import KubeRayCluster, KubeRayClusterClientResource, RayClusterConfig
from kube_objects import cluster_spec, names
from kubernetes import client
from processes import wait_for

Uses = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def uses(cluster: Cluster, namespace: str) -> Uses:
    """Returns a function that runs a step with a cluster."""

    def run(
        kubeconfig: Path = cluster.kubeconfig,
        spec: dict[str, Any] | None = None,
        body: Callable[[], None] | None = None,
        **more: Any,
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
            # Most tests need only the cluster.
            if body is not None:
                body()

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


def test_the_error_for_rejected_credentials_does_not_contain_the_token(
    cluster: Cluster, uses: Uses, tmp_path: Path
) -> None:
    error = _refusal(uses, kubeconfig=_with_token(cluster, "canary", tmp_path))
    assert error.count("does not accept the credentials") == 1 and "Unauthorized" in error, error
    assert "canary" not in error, "the error contains the token"


def test_the_error_for_a_forbidden_request_names_the_missing_rbac_rule(
    cluster: Cluster, namespace: str, uses: Uses, tmp_path: Path
) -> None:
    body = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[]))
    created = cluster.core.create_namespaced_service_account_token("default", namespace, body)
    error = _refusal(uses, kubeconfig=_with_token(cluster, created.status.token, tmp_path))
    rule = '{apiGroups: ["ray.io"], resources: ["rayclusters"], verbs: ["create"]}'
    for part in (rule, f"Role in the namespace {namespace}"):
        assert part in error, error


def test_the_error_without_an_operator_suggests_that_it_is_down(
    own_cluster: Cluster, namespace: str, uses: Uses
) -> None:
    own_cluster.stop_program("kuberay-operator")
    try:
        error = _refusal(uses, timeout=5)
    finally:
        own_cluster.start_program("kuberay-operator")
    assert "is the KubeRay operator running?" in error, error
    wait_for("nothing left", lambda: not names(own_cluster, namespace, "rayclusters"), 30)


def _running_head(cluster: Cluster, namespace: str) -> str:
    def running() -> str | None:
        pods = cluster.core.list_namespaced_pod(namespace).items
        return next((pod.metadata.name for pod in pods if pod.status.phase == "Running"), None)

    return wait_for("the head", running, 30, 0.1)


@pytest.mark.nightly
def test_waiting_survives_the_restart_of_a_killed_head(
    own_cluster: Cluster, namespace: str, uses: Uses
) -> None:
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(uses)
        own_cluster.kill_containers(namespace, _running_head(own_cluster, namespace))
        assert run.result(120).success


@pytest.mark.parametrize("fault", ["killed", pytest.param("evicted", marks=pytest.mark.nightly)])
def test_a_cluster_is_deleted_when_its_step_fails_because_the_head_is_gone(
    own_cluster: Cluster, namespace: str, uses: Uses, fault: str
) -> None:
    def body() -> None:
        head = _running_head(own_cluster, namespace)
        if fault == "killed":
            own_cluster.kill_containers(namespace, head)
        else:
            own_cluster.core.delete_namespaced_pod(head, namespace, grace_period_seconds=0)
        raise ConnectionError("the head is gone")

    with pytest.raises(ConnectionError, match="the head is gone"):
        uses(body=body)
    wait_for("nothing left", lambda: not names(own_cluster, namespace, "rayclusters"), 30)


@pytest.mark.nightly
def test_a_cluster_is_deleted_while_the_operator_is_down(
    own_cluster: Cluster, namespace: str, uses: Uses
) -> None:
    try:
        assert uses(body=lambda: own_cluster.stop_program("kuberay-operator")).success
        wait_for("nothing left", lambda: not names(own_cluster, namespace, "rayclusters"), 30)
    finally:
        own_cluster.start_program("kuberay-operator")


@pytest.mark.parametrize("moment", [pytest.param("wait", marks=pytest.mark.nightly), "use"])
@pytest.mark.parametrize(
    "sign", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.nightly)]
)
def test_an_interrupted_step_deletes_its_cluster(
    cluster: Cluster, namespace: str, uses: Uses, moment: str, sign: signal.Signals
) -> None:
    def interrupt() -> None:
        os.kill(os.getpid(), sign)

    def body() -> None:
        if moment == "use":
            interrupt()
        time.sleep(20)
        raise AssertionError("the step was not interrupted")

    if moment == "wait":
        threading.Timer(1, interrupt).start()
    with pytest.raises(DagsterExecutionInterruptedError), capture_interrupts():
        uses(body=body)
    wait_for("nothing left", lambda: not names(cluster, namespace, "rayclusters"), 30)


def test_the_error_for_a_crashing_head_contains_its_last_log_lines(
    cluster: Cluster, namespace: str, uses: Uses
) -> None:
    spec = {**cluster_spec(cluster), "gcsFaultToleranceOptions": {"redisAddress": "nowhere:1"}}
    error = _refusal(uses, spec=spec, timeout=60)
    for part in ("CrashLoopBackOff", "the last lines of"):
        assert part in error, error


def test_the_error_for_an_invalid_manifest_gives_kuberays_reason(
    cluster: Cluster, namespace: str, uses: Uses
) -> None:
    spec = {**cluster_spec(cluster), "gcsFaultToleranceOptions": {"redisAddress": "nowhere:1"}}
    spec["headGroupSpec"]["rayStartParams"] = {"redis-password": "x"}
    error = _refusal(uses, spec=spec, timeout=60)
    assert "was rejected by KubeRay" in error and "redis-password" in error, error
