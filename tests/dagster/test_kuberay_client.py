"""`RayJobClient` and its cluster client on a real Kubernetes control plane."""

import manifests
import pytest
from cluster import Cluster
from dagster_ray.errors import BackendError, CallTimeoutError, DagsterRayError, InvalidConfigError
from dagster_ray.kuberay import RayJobClient


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
    assert client.get_ray_cluster_name("none", namespace) is None
    status = client.wait_until_deployment_ready("long", namespace, 120, 0.5)
    assert client.raise_if_deployment_failed("long", namespace)["rayClusterName"]
    clusters = client.ray_cluster_client
    assert client.get_ray_cluster_name("long", namespace) == status["rayClusterName"]
    made = clusters.get(status["rayClusterName"], namespace)
    service = made["status"]["head"]["serviceName"]
    client.wait_for_service_endpoints(service, namespace, timeout=60)
    assert client.wait_until_running("long", namespace, 60, 0.5)["jobStatus"] == "RUNNING"
    job = client.get_job_submission_id("long", namespace)
    with clusters.job_submission_client(status["rayClusterName"], namespace) as jobs:
        assert client.terminate("long", namespace)
        assert job and jobs.get_job_status(job) in ("RUNNING", "STOPPED")
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
