"""`RayJobClient` and its cluster client on a real Kubernetes control plane."""

import logging

import manifests
import pytest
import requests
from cluster import Cluster
from dagster_ray.errors import (
    BackendError,
    CallTimeoutError,
    DagsterRayError,
    InvalidConfigError,
    UnsupportedError,
)
from dagster_ray.kuberay import RayJobClient
from processes import wait_for

SPOKEN = ["one", "two"]


@pytest.fixture
def client(cluster: Cluster) -> RayJobClient:
    return RayJobClient(str(cluster.kubeconfig))


def _job(cluster: Cluster, namespace: str, name: str, **spec: object) -> None:
    body = manifests.ray_job(name, cluster.image, "sleep 600")
    body["metadata"]["labels"] = {"team": "models"}
    body["spec"] |= {"submissionMode": "HTTPMode", **spec}
    cluster.custom.create_namespaced_custom_object("ray.io", "v1", namespace, "rayjobs", body)


def test_the_client_waits_for_patches_and_terminates_a_job(
    cluster: Cluster, namespace: str, client: RayJobClient
) -> None:
    with pytest.raises(CallTimeoutError, match="not available after"):
        client.wait_until_exists("long", namespace, timeout=0.1, poll_interval=0.05)
    _job(cluster, namespace, "long")
    assert client.wait_until_exists("long", namespace)["spec"]["entrypoint"] == "sleep 600"
    [listed] = client.list(namespace, "team=models")["items"]
    assert listed["metadata"]["name"] == "long"
    assert client.list(namespace, "team=other")["items"] == []
    [listed] = client.list(namespace, "team in (models, other),!temporary")["items"]
    assert listed["metadata"]["name"] == "long"
    with pytest.raises(InvalidConfigError, match=r"query\.selector.*team in \(models"):
        client.list(namespace, "team in (models")

    step = {"op": "replace", "path": "/metadata/labels/team", "value": "other"}
    changed = client.update_json_patch("long", namespace, [step])
    assert changed["metadata"]["labels"]["team"] == "other"
    unmet = {"op": "test", "path": "/metadata/labels/team", "value": "models"}
    with pytest.raises(DagsterRayError):
        client.update_json_patch("long", namespace, [unmet, {**step, "value": "third"}])
    assert client.get("long", namespace)["metadata"]["labels"]["team"] == "other"

    assert not client.terminate("long", namespace), "Ray does not know the job yet"
    with pytest.raises(TimeoutError, match=r"the RayCluster of the RayJob .*/none: not available"):
        client.get_ray_cluster_name("none", namespace, timeout=0.1)
    name = client.get_ray_cluster_name("long", namespace, timeout=60)
    status = client.wait_until_deployment_ready("long", namespace, 120, 0.5)
    assert status.get("rayClusterName") == name
    assert client.raise_if_deployment_failed("long", namespace, status).get("rayClusterName")
    clusters = client.ray_cluster_client
    made = clusters.get_status(name, namespace, timeout=60)
    service = made.get("head", {}).get("serviceName", "")
    client.wait_for_service_endpoints(service, namespace, timeout=60)
    assert client.wait_until_ready("long", namespace, 60) == (service, made.get("endpoints"))
    assert clusters.wait_until_ready(name, namespace, 60) == (service, made.get("endpoints"))
    assert client.wait_until_running("long", namespace, 60, 0.5)
    assert client.get_status("long", namespace).get("jobStatus") == "RUNNING"
    job = client.get_job_submission_id("long", namespace)
    with clusters.job_submission_client(name, namespace, metadata={"team": "models"}) as jobs:
        assert client.terminate("long", namespace)
        assert job and jobs.get_job_status(job) in ("RUNNING", "STOPPED")
        address = jobs.get_address()
        with clusters.job_submission_client("none", namespace, address=address) as given:
            assert given.get_address() == address, "no cluster is looked up"
    # KubeRay, not the client, removes the object.
    assert client.get("long", namespace)


def test_waiting_for_an_invalid_job_fails_with_kuberays_reason(
    cluster: Cluster, namespace: str, client: RayJobClient
) -> None:
    _job(cluster, namespace, "wrong", backoffLimit=-1)
    with pytest.raises(DagsterRayError, match=r"is ValidationFailed: .*backoffLimit"):
        client.wait_until_running("wrong", namespace, 30, 0.5)
    with pytest.raises(BackendError, match="is ValidationFailed") as raised:
        client.raise_if_deployment_failed("wrong", namespace)
    assert raised.value.reason
    assert client.raise_if_deployment_failed("none", namespace) == {}


def test_the_output_of_a_job_is_read_and_followed(
    cluster: Cluster, namespace: str, client: RayJobClient
) -> None:
    # The output of a job is read from its cluster.
    ended = {"ttlSecondsAfterFinished": 120}
    _job(cluster, namespace, "speaks", entrypoint="echo one; sleep 3; echo two", **ended)
    followed = "".join(client.tail_job_logs("speaks", namespace, timeout=120))
    read = client.get_job_logs("speaks", namespace)
    for output in (followed, read):
        # Ray's own lines are in the output, too.
        assert [line for line in output.splitlines() if line in SPOKEN] == SPOKEN


def test_a_wait_logs_conditions_and_local_ports_are_forwarded(
    cluster: Cluster, namespace: str, client: RayJobClient, caplog: pytest.LogCaptureFixture
) -> None:
    _job(cluster, namespace, "long")
    clusters = client.ray_cluster_client
    name = client.get_ray_cluster_name("long", namespace, timeout=60)
    with caplog.at_level(logging.INFO, "dagster_ray"):
        clusters.wait_until_ready(name, namespace, timeout=120, log_cluster_conditions=True)
    assert "HeadPodReady" in caplog.text
    with clusters.port_forward(name, namespace) as (dashboard, ray_client):
        assert len({dashboard, ray_client, 8265, 10001}) == 4
        assert requests.get(f"http://127.0.0.1:{dashboard}/api/version", timeout=30).ok


@pytest.mark.nightly
def test_a_cluster_that_is_not_ready_in_time_is_a_timeout(
    cluster: Cluster, namespace: str, client: RayJobClient, caplog: pytest.LogCaptureFixture
) -> None:
    _job(cluster, namespace, "waits", suspend=True)
    for wait in (client.wait_until_ready, client.wait_until_deployment_ready):
        with pytest.raises(TimeoutError) as raised:
            wait("waits", namespace, timeout=5)
        assert isinstance(raised.value, DagsterRayError)
    with pytest.raises(TimeoutError):
        client.wait_until_running("waits", namespace, 1)
    assert "Stopping the RayJob" in caplog.text
    # Ray has no such job, so the RayJob is deleted.
    wait_for("the deletion", lambda: client.get("waits", namespace) == {})


def test_the_clients_refuse_what_they_do_not_support() -> None:
    with pytest.raises(UnsupportedError, match=r"api_client.*kube_config"):
        RayJobClient(api_client=object())
    with pytest.raises(UnsupportedError, match="async_req"):
        RayJobClient().list("ray", async_req=True)
    with (
        pytest.raises(UnsupportedError, match="9000, 0 cannot be chosen"),
        RayJobClient().ray_cluster_client.port_forward("a", "ray", 9000, 0),
    ):
        pass
