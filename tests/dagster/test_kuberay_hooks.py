"""The hooks of the KubeRay resources, and the default namespace, on the simulated backend."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from cluster_use import use_cluster
from dagster_ray import Lifecycle
from dagster_ray.contract import LauncherClient
from dagster_ray.errors import InvalidConfigError, UnsupportedError
from dagster_ray.kuberay import (
    ClusterSharing,
    DeleteKubeRayClustersConfig,
    KubeRayCluster,
    KubeRayInteractiveJob,
    PipesKubeRayJobClient,
    RayClusterClient,
    RayClusterConfig,
)
from dagster_ray.kuberay.backend import KubeRay
from dagster_ray.testing import SimulatedRay
from run_spec import PLAN

NAMESPACE = "pipelines"
PROJECT = Path(__file__).parent / "code" / "simulated_project.py"


def _shared(selector: str) -> str:
    """Returns the name of the cluster that a step with this selector uses, and keeps it."""

    class Selected(KubeRayCluster):
        def get_sharing_label_selector(self, context: Any) -> str:
            return selector

    resource = Selected(
        image="i",
        ray_cluster=RayClusterConfig(metadata={"namespace": NAMESPACE}),
        cluster_sharing=ClusterSharing(enabled=True),
        lifecycle=Lifecycle(cleanup="never"),
    )
    return use_cluster(resource, lambda one: one.name).output_for_node("uses")


def test_an_overridden_selector_decides_which_cluster_a_step_joins(
    simulated_ray: SimulatedRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By default, each run has its own instance, and so its own deployment.
    monkeypatch.setenv("DAGSTER_CLOUD_DEPLOYMENT_NAME", "prod")
    first = _shared("team=models,stage==dev")
    assert _shared("stage=dev, team=models") == first, "the order has no meaning"
    assert _shared("team=models,stage=prod") != first
    labels = RayClusterClient().get(first, NAMESPACE)["metadata"]["labels"]
    assert (labels["team"], labels["stage"]) == ("models", "dev")


@pytest.mark.parametrize("selector", ["team in (a, b)", "!temporary", "team!=a", ""])
def test_a_selector_that_no_new_cluster_could_match_is_refused(selector: str) -> None:
    with pytest.raises(dg.DagsterError) as raised:
        _shared(selector)
    assert isinstance(raised.value.__cause__, InvalidConfigError)
    assert "is not key=value" in str(raised.value.__cause__)


def test_a_pipes_client_does_not_silently_ignore_a_host_name() -> None:
    class Named(PipesKubeRayJobClient):
        def resolve_hostname(self, service_name: str, namespace: str, dashboard_port: int) -> str:
            return f"https://{service_name}.{namespace}.example.com:{dashboard_port}"

    with pytest.raises(UnsupportedError, match=r"Named\.resolve_hostname: is not called"):
        Named()


def test_the_default_namespace_is_set_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> set[str]:
        spec: Any = {**PLAN["run"], "options": json.dumps({"image": "i"})}
        placement = LauncherClient(KubeRay(is_checked=True)).plan(spec)
        assert placement != "local"
        details = json.loads(placement["job"]["job"]["details"] or "{}")
        return {
            KubeRayCluster().namespace,
            KubeRayInteractiveJob().namespace,
            RayClusterConfig().namespace,
            DeleteKubeRayClustersConfig(cluster_names=["a"]).namespace,
            details["namespace"],
        }

    monkeypatch.delenv("DAGSTER_RAY_NAMESPACE", raising=False)
    assert found() == {"ray"}
    monkeypatch.setenv("DAGSTER_RAY_NAMESPACE", "default")
    assert found() == {"default"}
    named = RayClusterConfig(metadata={"namespace": NAMESPACE})
    assert KubeRayCluster(ray_cluster=named).namespace == NAMESPACE


def test_a_worker_gets_the_default_namespace(
    simulated_ray: SimulatedRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_RAY_NAMESPACE", "default")
    assert simulated_ray.execute(PROJECT, job="training").success
    for job in simulated_ray.jobs:
        variables: Any = job.runtime_env["env_vars"]
        assert variables["DAGSTER_RAY_NAMESPACE"] == "default"
