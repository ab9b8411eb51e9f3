"""`KubeRayCluster` and `KubeRayInteractiveJob` on a real Kubernetes control plane."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from cluster import Cluster
from cluster_use import use_cluster
from dagster_ray import Lifecycle
from dagster_ray.errors import BackendError, InvalidConfigError, NotFoundError
from dagster_ray.kuberay import (
    ClusterSharing,
    ClusterSharingHeartbeat,
    KubeRayCluster,
    KubeRayClusterClientResource,
    KubeRayInteractiveJob,
    KubeRayJobClientResource,
    RayClusterConfig,
)
from dagster_ray.kuberay.configs import InteractiveRayJobConfig
from kube_objects import cluster_spec, names
from processes import wait_for


@pytest.fixture
def client(cluster: Cluster) -> KubeRayClusterClientResource:
    return KubeRayClusterClientResource(kube_config=str(cluster.kubeconfig))


@pytest.fixture
def deployment(monkeypatch: pytest.MonkeyPatch) -> str:
    """The deployment of all runs of a test. By default, each run has its own."""
    monkeypatch.setenv("DAGSTER_CLOUD_DEPLOYMENT_NAME", "of-the-test")
    return "of-the-test"


def _resource(
    cluster: Cluster, namespace: str, client: KubeRayClusterClientResource, /, **more: Any
) -> KubeRayCluster:
    config = RayClusterConfig(metadata={"namespace": namespace}, spec=cluster_spec(cluster))
    given = {"image": cluster.image, "ray_cluster": config, "client": client}
    return KubeRayCluster(**{**given, **more})


def _refusal(resource: Any) -> BaseException | None:
    """Returns the error of a resource's setup, without Dagster's wrapper."""
    with pytest.raises(dg.DagsterError) as raised:
        use_cluster(resource)
    return raised.value.__cause__


def test_a_cluster_is_created_for_a_step_and_deleted_afterwards(
    cluster: Cluster, namespace: str, client: KubeRayClusterClientResource
) -> None:
    seen: dict[str, Any] = {}

    def body(resource: KubeRayCluster) -> int:
        import ray

        document = cluster.custom.get_namespaced_custom_object(
            "ray.io", "v1", namespace, "rayclusters", resource.name
        )
        seen.update(document["metadata"]["labels"])

        # A local function is pickled by value; the cluster cannot import this module.
        def squared(x: int) -> tuple[int, str]:
            return x * x, os.uname().nodename

        square: Any = ray.remote(squared)
        value, node = ray.get(square.remote(7))
        assert node.startswith(resource.name)
        return value

    tags = {"dagster/user": "Jane Döe <jane@example.org>"}
    result = use_cluster(_resource(cluster, namespace, client), body, tags=tags)
    assert result.output_for_node("uses") == 49
    assert seen["dagster/run-id"] == result.run_id
    assert seen["dagster/user"] == "Jane-D-e-jane-at-example.org"
    assert names(cluster, namespace, "rayclusters") == []


@pytest.mark.nightly
def test_a_pod_of_another_kubernetes_cluster_connects_through_a_port_forward(
    cluster: Cluster,
    namespace: str,
    client: KubeRayClusterClientResource,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The variables of a pod. The names of services resolve in its own cluster only.
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.99.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")

    def body(resource: KubeRayCluster) -> tuple[str, int]:
        import ray

        return resource.host, ray.get(ray.put(5))

    result = use_cluster(_resource(cluster, namespace, client), body)
    assert result.output_for_node("uses") == ("127.0.0.1", 5)


def test_an_interactive_job_completes_when_its_driver_ends(
    cluster: Cluster, namespace: str
) -> None:
    config = InteractiveRayJobConfig(
        metadata={"namespace": namespace}, spec={"ray_cluster_spec": cluster_spec(cluster)}
    )
    resource = KubeRayInteractiveJob(
        image=cluster.image,
        ray_job=config,
        client=KubeRayJobClientResource(kube_config=str(cluster.kubeconfig)),
    )

    def body(resource: KubeRayInteractiveJob) -> str:
        import ray

        assert resource.cluster_name.startswith(resource.name)
        assert ray.get(ray.put(1)) == 1
        return resource.name

    name = use_cluster(resource, body).output_for_node("uses")

    def ended() -> bool:
        job = cluster.custom.get_namespaced_custom_object(
            "ray.io", "v1", namespace, "rayjobs", name
        )
        return job["status"].get("jobDeploymentStatus") == "Complete"

    wait_for("the job's end", ended, 60)


@pytest.mark.usefixtures("deployment")
def test_steps_that_start_at_once_share_one_cluster(
    cluster: Cluster, namespace: str, client: KubeRayClusterClientResource
) -> None:
    sharing = ClusterSharing(enabled=True, match_labels={"team": "models"})
    lifecycle = Lifecycle(connect=False)
    sizes: list[int] = []

    def step(_: int) -> str:
        resource = _resource(
            cluster, namespace, client, cluster_sharing=sharing, lifecycle=lifecycle
        )

        def body(resource: KubeRayCluster) -> str:
            sizes.append(len(names(cluster, namespace, "rayclusters")))
            time.sleep(3)
            return resource.name

        return use_cluster(resource, body).output_for_node("uses")

    with ThreadPoolExecutor(20) as pool:
        used = set(pool.map(step, range(20)))
    assert len(used) == 1 and set(sizes) == {1}
    wait_for("the release of the cluster", lambda: not names(cluster, namespace, "rayclusters"))


def test_deployments_in_one_namespace_do_not_share_clusters(
    cluster: Cluster, namespace: str, client: KubeRayClusterClientResource
) -> None:
    def shared() -> KubeRayCluster:
        sharing = ClusterSharing(enabled=True, match_labels={"team": "models"})
        lifecycle = Lifecycle(wait=False)
        return _resource(cluster, namespace, client, cluster_sharing=sharing, lifecycle=lifecycle)

    def left() -> list[str]:
        return names(cluster, namespace, "rayclusters")

    def meanwhile(resource: KubeRayCluster) -> list[str]:
        with dg.DagsterInstance.ephemeral() as other:
            result = use_cluster(shared(), lambda of_the_other: of_the_other.name, instance=other)
        return [resource.name, result.output_for_node("uses"), *left()]

    with dg.DagsterInstance.ephemeral() as instance:
        result = use_cluster(shared(), meanwhile, instance=instance)
    ours, others, *remaining = result.output_for_node("uses")
    assert ours != others
    # The end of the other deployment's run deletes its cluster only.
    assert remaining == [ours]
    wait_for("the release of the cluster", lambda: not left())


def _leases(cluster: Cluster, namespace: str, name: str) -> list[dict[str, Any]]:
    """Returns the leases in the annotations of a shared RayCluster."""
    document = cluster.custom.get_namespaced_custom_object(
        "ray.io", "v1", namespace, "rayclusters", name
    )
    annotations = document["metadata"]["annotations"]
    return [
        json.loads(text)
        for key, text in annotations.items()
        if key.startswith("dagster-ray/holder-")
    ]


def _expired(client: KubeRayClusterClientResource, namespace: str, deployment: str) -> list[str]:
    """Returns the clusters that a cleanup would delete if no run were live."""
    query = {"namespace": namespace, "labels": [], "selector": None, "kind": None}
    rule = {"deployment": deployment, "query": query, "live_runs": [], "older_than_s": 0}
    found = client.client.backend_for().call("cluster.expired", {"rule": rule})
    return [info["cluster"]["name"] for info in found["expired"]]


@pytest.mark.nightly
@pytest.mark.timeout(120)
def test_heartbeats_renew_a_lease_until_the_step_ends(
    cluster: Cluster, namespace: str, client: KubeRayClusterClientResource, deployment: str
) -> None:
    """A step may take longer than its lease of 20 s if a heartbeat renews it every 10 s.

    Without a heartbeat, the lease expires.
    """
    longer = 25
    spec: Any = {**cluster_spec(cluster), "suspend": True}

    def shared(team: str, **more: Any) -> KubeRayCluster:
        return _resource(
            cluster,
            namespace,
            client,
            ray_cluster=RayClusterConfig(
                metadata={"namespace": namespace, "name": f"of-{team}"}, spec=spec
            ),
            cluster_sharing=ClusterSharing(
                enabled=True, match_labels={"team": team}, ttl_seconds=20, **more
            ),
            # A suspended cluster never becomes ready.
            lifecycle=Lifecycle(wait=False),
        )

    def held_for_long(resource: KubeRayCluster) -> list[Any]:
        [first] = _leases(cluster, namespace, resource.name)
        assert resource.name not in _expired(client, namespace, deployment)
        time.sleep(longer)
        [last] = _leases(cluster, namespace, resource.name)
        assert (first["holder"], first["ttl_seconds"]) == (last["holder"], 20)
        renewed = last["renewed_at"] - first["renewed_at"]
        return [renewed, resource.name in _expired(client, namespace, deployment)]

    silent = ClusterSharingHeartbeat(enabled=False)
    resources = {"with": shared("with"), "without": shared("without", heartbeat=silent)}
    assert resources["with"].cluster_sharing.heartbeat.refresh_seconds == 10
    with ThreadPoolExecutor(2) as pool:
        runs = {
            team: pool.submit(use_cluster, resource, held_for_long)
            for team, resource in resources.items()
        }
        seen = {team: run.result(90).output_for_node("uses") for team, run in runs.items()}
    renewed, expired = seen["with"]
    assert renewed >= 18 and not expired, "two heartbeats have renewed the lease"
    assert seen["without"] == [0, True]
    # Both steps release their clusters at the end, with a valid lease or without.
    wait_for("no cluster", lambda: not names(cluster, namespace, "rayclusters"), 30)


def test_invalid_input_is_refused_before_a_cluster_is_created(
    cluster: Cluster, namespace: str, client: KubeRayClusterClientResource, tmp_path: Path
) -> None:
    def refused(kind: type[Exception], *parts: str, **more: Any) -> None:
        error = _refusal(_resource(cluster, namespace, client, **more))
        assert isinstance(error, kind), repr(error)
        for part in parts:
            assert part in str(error), error

    refused(InvalidConfigError, "image", "dagster/image", image=None)
    spec = {**cluster_spec(cluster), "workers": 3}
    config = RayClusterConfig(metadata={"namespace": namespace}, spec=spec)
    refused(InvalidConfigError, "spec.workers", ray_cluster=config)
    config = RayClusterConfig(metadata={"namespace": namespace, "name": "a" * 54})
    refused(InvalidConfigError, "54 characters", ray_cluster=config)
    config = RayClusterConfig(metadata={"namespace": "nowhere"}, spec=cluster_spec(cluster))
    refused(NotFoundError, "the namespace nowhere does not exist", ray_cluster=config)
    missing = KubeRayClusterClientResource(kube_config=str(tmp_path / "none"))
    refused(Exception, str(tmp_path / "none"), client=missing)
    assert names(cluster, namespace, "rayclusters") == []


def test_the_error_for_a_head_that_cannot_start_gives_the_reason(
    cluster: Cluster, namespace: str, client: KubeRayClusterClientResource
) -> None:
    resource = _resource(cluster, namespace, client, image="does-not-exist:1", timeout=10)
    error = _refusal(resource)
    assert isinstance(error, BackendError), repr(error)
    for part in ("is not ready after 10 s", "ImagePull", "does-not-exist:1"):
        assert part in str(error), error
    assert names(cluster, namespace, "rayclusters") == []


def test_waiting_for_a_cluster_takes_at_most_five_requests(
    own_cluster: Cluster, namespace: str, client: KubeRayClusterClientResource
) -> None:
    def request_count() -> int:
        return len(own_cluster.requests("dagster-ray"))

    before = request_count()
    lifecycle = Lifecycle(connect=False, cleanup="never")
    use_cluster(_resource(own_cluster, namespace, client, lifecycle=lifecycle))
    # One request creates the cluster. Waiting takes at most five, whatever its duration.
    assert 3 <= request_count() - before <= 6


@pytest.mark.nightly
def test_waiting_survives_restarts_of_the_api_server_and_the_operator(
    own_cluster: Cluster, namespace: str, client: KubeRayClusterClientResource
) -> None:
    with ThreadPoolExecutor(1) as pool:
        lifecycle = Lifecycle(connect=False)
        run = pool.submit(
            use_cluster, _resource(own_cluster, namespace, client, lifecycle=lifecycle)
        )
        wait_for("the cluster", lambda: names(own_cluster, namespace, "rayclusters"), 30)
        own_cluster.restart_operator()
        own_cluster.restart_apiserver()
        assert run.result(120).success


def test_waiting_fails_when_the_cluster_is_deleted(
    cluster: Cluster, namespace: str, client: KubeRayClusterClientResource
) -> None:
    with ThreadPoolExecutor(1) as pool:
        lifecycle = Lifecycle(connect=False)
        run = pool.submit(_refusal, _resource(cluster, namespace, client, lifecycle=lifecycle))
        [name] = wait_for("the cluster", lambda: names(cluster, namespace, "rayclusters"), 30)
        cluster.custom.delete_namespaced_custom_object(
            "ray.io", "v1", namespace, "rayclusters", name
        )
        error = run.result(30)
        assert isinstance(error, NotFoundError) and "deleted while it" in str(error)


def test_the_users_manifest_is_not_modified(
    cluster: Cluster, namespace: str, client: KubeRayClusterClientResource
) -> None:
    spec = cluster_spec(cluster)
    before = json.dumps(spec)
    lifecycle = Lifecycle(wait=False)
    for _ in range(2):
        use_cluster(_resource(cluster, namespace, client, lifecycle=lifecycle))
    assert json.dumps(spec) == before


@pytest.mark.nightly
def test_a_subclass_can_override_the_hostname_of_the_head(
    cluster: Cluster,
    namespace: str,
    client: KubeRayClusterClientResource,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Elsewhere(KubeRayCluster):
        def resolve_hostname(self, service_name: str, namespace: str) -> str:
            return f"{service_name}.{namespace}.svc.elsewhere.example"

    def body(resource: KubeRayCluster) -> list[str]:
        return [resource.name, resource.host, resource.ray_address, resource.dashboard_url]

    config = RayClusterConfig(metadata={"namespace": namespace}, spec=cluster_spec(cluster))
    resource = Elsewhere(
        image=cluster.image,
        ray_cluster=config,
        client=client,
        lifecycle=Lifecycle(connect=False),
    )
    # Simulates a pod. The client names a kubeconfig, so no service account is needed.
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    name, host, ray_address, dashboard = use_cluster(resource, body).output_for_node("uses")
    assert host == f"{name}-head-svc.{namespace}.svc.elsewhere.example"
    assert (ray_address, dashboard) == (f"ray://{host}:10001", f"http://{host}:8265")
