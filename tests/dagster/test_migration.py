"""A project for `dagster-ray` 0.4.8, in `migration/`, runs here without a change of its code."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import checks
import dagster as dg
import pytest
from cluster import Cluster
from cluster_use import use_cluster
from dagster_ray.kuberay import KubeRayClusterClientResource, RayClusterClient
from dagster_ray.testing import SimulatedRay
from pipes_script import Write
from ray_head import RunningHead
from station import assets, clusters, operations, settings
from station.definitions import SEASON_ENDS, defs
from test_public_names import LIST, covers, rows

PROJECT = Path(__file__).with_name("migration")
SCRIPT = """
    from dagster_pipes import open_dagster_pipes
    with open_dagster_pipes() as pipes:
        rows = pipes.get_extra("rows")
        pipes.report_asset_materialization(metadata={"rows": rows})
"""


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> str:
    """Returns the module of the project's definitions, which other processes can import."""
    monkeypatch.chdir(PROJECT)
    return "station.definitions"


def _imported() -> Iterator[tuple[str, str]]:
    for file in PROJECT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield from ((node.module, alias.name) for alias in node.names)


def test_the_project_imports_each_public_name_from_each_of_its_modules() -> None:
    imported = set(_imported())
    listed = json.loads(LIST.read_text(encoding="utf-8"))
    missing = [
        f"{module}.{name}"
        for module, described in listed.items()
        for name in described
        if (module, name) not in imported
        and not any(covers(row, f"{module}.{name}".removeprefix("dagster_ray.")) for row in rows())
    ]
    assert not missing, missing


def test_only_the_requirement_of_the_project_names_the_version() -> None:
    assert (PROJECT / "requirements.txt").read_text() == "dagster-ray[kuberay]==0.4.8\n"
    package = "dagster_ray_wasm"
    assert not any(package in file.read_text() for file in PROJECT.rglob("*.py"))


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_a_check_of_the_project_passes(check: Any) -> None:
    check()


def test_the_projects_steps_run_on_ray(simulated_ray: SimulatedRay, project: str) -> None:
    result = simulated_ray.execute(project, job="hourly")
    assert result.success, result
    assert (result.value("readings"), result.value("warmest")) == ([1, 2, 3], 3)
    first, second = simulated_ray.jobs
    assert (first.step, second.step) == ("readings", "warmest")
    variables: Any = first.runtime_env["env_vars"]
    assert variables["STATION"] == "north"


@pytest.mark.parametrize(("name", "resource"), [("reported", "pipes"), ("forecast", "kube")])
def test_the_projects_scripts_run_on_ray(
    simulated_ray: SimulatedRay, script: Write, name: str, resource: str
) -> None:
    config = {"ops": {name: {"config": {"script": script(SCRIPT), "rows": 7}}}}
    result = dg.materialize(
        [getattr(assets, name)],
        resources={resource: defs.resources[resource]},  # type: ignore[index]
        run_config=config,
        instance=simulated_ray.instance,
    )
    assert result.success
    [event] = result.asset_materializations_for_node(name)
    assert event.metadata["rows"].value == 7
    [job] = simulated_ray.jobs
    assert job.metadata["dagster/run-id"] == result.run_id


def test_the_projects_clusters_have_its_labels(
    simulated_ray: SimulatedRay,
) -> None:
    shared = clusters.shared_cluster()
    name = use_cluster(shared, lambda one: one.name).output_for_node("uses")
    labels = RayClusterClient().get(name, settings.NAMESPACE)["metadata"]["labels"]
    assert (labels["season"], labels["dagster/job"]) == ("winter", "job")
    assert operations.names(RayClusterClient(), "winter") == [name]
    assert use_cluster(clusters.forecast_cluster()).success


def test_the_projects_job_deletes_the_cluster_of_a_season(simulated_ray: SimulatedRay) -> None:
    client = RayClusterClient()
    body = {"metadata": {"name": "winter"}, "spec": {}}
    client.create(body, settings.NAMESPACE)
    job = defs.resolve_job_def("end_of_season")
    resources = {"raycluster_client": KubeRayClusterClientResource()}
    assert job.execute_in_process(run_config=SEASON_ENDS, resources=resources).success
    assert client.get("winter", settings.NAMESPACE) == {}


@pytest.mark.slow
def test_the_projects_asset_computes_on_real_ray(ray_head: RunningHead) -> None:
    code = """
import dagster as dg
from station import assets, clusters
made = dg.materialize([assets.squares], resources={"ray_cluster": clusters.LocalRay()})
assert made.success and made.output_for_node("squares") == 14
"""
    environment = {**os.environ, "RAY_ADDRESS": ray_head.gcs, "PYTHONPATH": str(PROJECT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=300)


def test_the_projects_operator_runs_and_stops_a_job_on_kubernetes(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import manifests

    monkeypatch.setattr(operations, "NAMESPACE", namespace)
    of_clusters, of_jobs = operations.clients(str(cluster.kubeconfig))
    body = manifests.ray_job("season", cluster.image, "echo cold; sleep 600")
    body["metadata"]["labels"] = {"season": "winter"}
    body["spec"]["submissionMode"] = "HTTPMode"
    cluster.custom.create_namespaced_custom_object("ray.io", "v1", namespace, "rayjobs", body)
    assert of_jobs.wait_until_running("season", namespace, timeout=240)
    name = of_jobs.get_ray_cluster_name("season", namespace, timeout=60, poll_interval=0.5)
    head, ports = operations.head_of(of_clusters, name)
    assert head.get("serviceName") and ports["dashboard"] == "8265"
    assert operations.names(of_jobs, "winter") == ["season"]
    # Ray's own lines are in the output, too.
    assert "cold" in next(operations.watch(of_jobs, "season"))
    assert operations.stop(of_jobs, "season")
    assert operations.names(of_jobs, "winter") == []
