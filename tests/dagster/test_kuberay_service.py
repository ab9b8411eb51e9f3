"""Applications of Ray Serve as RayServices, on a real Kubernetes control plane."""

import json
import runpy
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from cluster import Cluster
from dagster_ray.errors import ConflictError
from dagster_ray.kuberay import KubeRayClusterClientResource, KubeRayServe, ray_serve_asset
from example_commands import EXAMPLES
from kube_objects import cluster_spec, owner_label
from processes import wait_for

PATH = ("ray.io", "v1")


@pytest.fixture
def serve(cluster: Cluster, namespace: str) -> KubeRayServe:
    spec = cluster_spec(cluster, EXAMPLES / "ray-serve")
    [container] = spec["headGroupSpec"]["template"]["spec"]["containers"]
    container["env"] = [{"name": "PYTHONPATH", "value": str(EXAMPLES / "ray-serve")}]
    return KubeRayServe(
        namespace=namespace,
        image=cluster.image,
        ray_service={
            "spec": {"rayClusterDeletionDelaySeconds": 1, "rayClusterConfig": spec},
        },
        timeout=150,
        client=KubeRayClusterClientResource(kube_config=str(cluster.kubeconfig)),
    )


def _materialize(
    instance: dg.DagsterInstance, serve: KubeRayServe, config: dict[str, Any]
) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [ray_serve_asset("greeter", config)],
        resources={"ray_serve": serve},
        instance=instance,
        raise_on_error=False,
    )


def _use(
    instance: dg.DagsterInstance,
    serve: KubeRayServe,
    body: Callable[[dg.OpExecutionContext, KubeRayServe], Any],
) -> None:
    @dg.op(required_resource_keys={"ray_serve"})
    def uses(context: dg.OpExecutionContext) -> None:
        body(context, context.resources.ray_serve)

    @dg.job(resource_defs={"ray_serve": serve})
    def job() -> None:
        uses()

    job.execute_in_process(instance=instance)


def _metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    assert result.success, [str(e.event_specific_data) for e in result.get_step_failure_events()]
    [made] = result.asset_materializations_for_node("greeter")
    return {key: value.value for key, value in made.metadata.items()}


def _answer(cluster: Cluster, url: str) -> str:
    """Returns what the service answers, asked from inside of the cluster."""
    done = cluster.run_inside(["curl", "-sS", "--max-time", "20", f"{url}/"])
    return done.stdout


@pytest.mark.timeout(500)
def test_an_upgrade_serves_without_a_gap_and_a_failing_one_leaves_the_old_version(
    home, cluster: Cluster, namespace: str, serve: KubeRayServe
) -> None:
    instance: dg.DagsterInstance = home({})
    config = runpy.run_path(str(EXAMPLES / "ray-serve/definitions.py"))["CONFIG"]

    def with_greeting(greeting: str) -> dict[str, Any]:
        changed = json.loads(json.dumps(config))
        changed["applications"][0]["args"]["greeting"] = greeting
        return changed

    first = _metadata(_materialize(instance, serve, config))
    assert first["applications"] == {"greeter": "RUNNING"}
    assert first["deployments"] == {"greeter/Greeter": "HEALTHY"}
    assert _answer(cluster, first["url"]).startswith("hello from greeter-")

    unchanged = _metadata(_materialize(instance, serve, config))
    assert unchanged["version"] == first["version"]
    assert unchanged["RayCluster"] == first["RayCluster"]

    second = _metadata(_materialize(instance, serve, with_greeting("good day")))
    assert second["version"] != first["version"]
    assert second["RayCluster"] != first["RayCluster"]
    assert _answer(cluster, second["url"]).startswith("good day")
    listed = cluster.custom.list_namespaced_custom_object(*PATH, namespace, "rayclusters")["items"]
    assert [one["metadata"]["name"] for one in listed] == [second["RayCluster"]]

    failing = _materialize(instance, serve, with_greeting(""))
    assert not failing.success
    [failure] = failing.get_step_failure_events()
    assert "the greeting is empty" in str(failure.event_specific_data)
    assert _answer(cluster, second["url"]).startswith("good day")

    def deletes(context: dg.OpExecutionContext, serve: KubeRayServe) -> None:
        assert serve.delete(context, "greeter")
        wait_for("the end of the service", lambda: serve.status("greeter") is None, 30)
        assert not serve.delete(context, "greeter")

    _use(instance, serve, deletes)


def test_a_service_of_another_deployment_is_neither_updated_nor_deleted(
    home, cluster: Cluster, namespace: str, serve: KubeRayServe
) -> None:
    instance: dg.DagsterInstance = home({})
    spec = cluster_spec(cluster)
    spec["headGroupSpec"]["template"]["spec"]["containers"][0]["image"] = cluster.image
    owners = {"of-another": {"dagster-ray/deployment": "another"}, "unlabelled": {}}
    for name, labels in owners.items():
        body = {
            "apiVersion": "ray.io/v1",
            "kind": "RayService",
            "metadata": {"name": name, "labels": labels},
            "spec": {"rayClusterConfig": {**spec, "suspend": True}},
        }
        cluster.custom.create_namespaced_custom_object(*PATH, namespace, "rayservices", body)
        for body in (
            lambda context, serve, name=name: serve.deploy(context, name, {"applications": []}),
            lambda context, serve, name=name: serve.delete(context, name),
        ):
            with pytest.raises(ConflictError, match="not of this Dagster deployment"):
                _use(instance, serve, body)
    assert owner_label(instance).items().isdisjoint(owners["of-another"].items())
