"""The manifests of deploy/kubernetes are sufficient for each way to use Ray, and grant no more."""

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from cluster import Cluster
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster._core.test_utils import create_run_for_test
from dagster_ray import _native
from dagster_ray.component_files import built_in
from dagster_ray.kuberay import (
    KubeRayCluster,
    KubeRayClusterClientResource,
    PipesKubeRayJobClient,
    RayClusterConfig,
    RayJobClient,
)
from dagster_ray.reconcile import reconcile
from dagster_ray.reconcile.launcher_backend import launcher_backend
from kube_objects import (
    DEPLOY,
    apply,
    cluster_spec,
    deployed,
    kubeconfig_of,
    make_cluster,
    names,
    owner_label,
    role_rules,
)
from kubernetes import client, config
from processes import wait_for

Home = Callable[[dict], dg.DagsterInstance]

CODE = """
import time

import dagster as dg
from dagster_ray import ray_executor


@dg.op
def works():
    pass


@dg.op
def takes_a_while():
    time.sleep(10)


@dg.job(executor_def=dg.in_process_executor)
def one_worker():
    takes_a_while()


@dg.job(executor_def=ray_executor, resource_defs={"io_manager": dg.FilesystemIOManager()})
def a_worker_for_each_step():
    works()
"""


@pytest.fixture
def outside(
    cluster: Cluster,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Applies the manifests for a Dagster outside the cluster, and returns its kubeconfig.

    The run workers in the cluster use the same service account.
    """
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    apply(cluster, deployed(DEPLOY / "outside", namespace))
    return kubeconfig_of(cluster, namespace, "dagster-ray", tmp_path)


def _spec(cluster: Cluster, folder: Path | None = None) -> dict[str, Any]:
    """Returns the spec of a cluster whose pods have the service account of the manifests."""
    spec = cluster_spec(cluster, folder)
    spec["headGroupSpec"]["template"]["spec"]["serviceAccountName"] = "dagster-ray"
    return spec


def _backend(cluster: Cluster, namespace: str, outside: Path, folder: Path) -> dict[str, Any]:
    job = {"spec": {"rayClusterSpec": _spec(cluster, folder)}}
    return {
        "backend": "kuberay",
        "backend_config": {"namespace": namespace, "image": cluster.image, "ray_job": job},
        "kube_config": str(outside),
    }


def _job(folder: Path, name: str) -> ReconstructableJob:
    file = folder / "outside_runs.py"
    file.write_text(CODE)
    return ReconstructableJob.for_file(str(file), name)


def test_the_account_may_not_list_secrets_or_config_maps(outside: Path, namespace: str) -> None:
    core: Any = client.CoreV1Api(config.new_client_from_config(str(outside)))
    assert core.list_namespaced_pod(namespace).items == []
    for refused in (core.list_namespaced_secret, core.list_namespaced_config_map):
        with pytest.raises(client.ApiException) as raised:
            refused(namespace)
        assert raised.value.status == 403


@pytest.mark.timeout(300)
def test_the_role_is_sufficient_for_the_launcher(
    home: Home, cluster: Cluster, namespace: str, outside: Path, tmp_path: Path
) -> None:
    config = _backend(cluster, namespace, outside, tmp_path)
    launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": config}
    instance = home({"run_launcher": launcher})
    job = _job(tmp_path, "one_worker")
    run = create_run_for_test(
        instance,
        job_name="one_worker",
        job_code_origin=job.get_python_origin(),
        status=dg.DagsterRunStatus.STARTING,
    )
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))

    reports: set[str] = set()

    def ended() -> bool:
        now = instance.get_run_by_id(run.run_id)
        health = instance.run_launcher.check_run_worker_health(run)
        assert now and (now.is_finished or health.status == WorkerStatus.RUNNING), health
        if now.status == dg.DagsterRunStatus.STARTED:
            reports.add(instance.run_launcher.get_run_worker_debug_info(run) or "")
        return now.status == dg.DagsterRunStatus.SUCCESS

    wait_for("the run", ended, 200, 1)
    # The debug info comes from Ray's dashboard, through the API server.
    assert any("status: RUNNING" in report for report in reports), reports


@pytest.mark.timeout(300)
def test_the_role_is_sufficient_for_the_executor(
    home: Home, cluster: Cluster, namespace: str, outside: Path, tmp_path: Path
) -> None:
    config = _backend(cluster, namespace, outside, tmp_path)
    with dg.execute_job(
        _job(tmp_path, "a_worker_for_each_step"),
        instance=home({}),
        run_config={"execution": {"config": config}},
        raise_on_error=False,
    ) as result:
        assert result.success, [event.message for event in result.all_events]
    # The RayJob of the step stays until its ttl is over.
    [name] = names(cluster, namespace, "rayjobs")
    assert name.startswith("dg-step-")


def test_the_role_is_sufficient_for_a_cluster_of_a_step(
    cluster: Cluster, namespace: str, outside: Path
) -> None:
    resource = KubeRayCluster(
        image=cluster.image,
        ray_cluster=RayClusterConfig(
            metadata={"namespace": namespace},
            spec=_spec(cluster),  # type: ignore[arg-type]
        ),
        client=KubeRayClusterClientResource(kube_config=str(outside)),
    )

    @dg.asset
    def answer(ray_cluster: KubeRayCluster) -> int:
        import ray

        return ray.get(ray.put(42))

    definitions = dg.Definitions([answer], resources={"ray_cluster": resource})
    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process()
    assert result.output_for_node("answer") == 42
    assert names(cluster, namespace, "rayclusters") == []


@pytest.mark.timeout(200)
def test_the_role_is_sufficient_for_a_pipes_script(
    cluster: Cluster,
    namespace: str,
    outside: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            from dagster_pipes import open_dagster_pipes

            with open_dagster_pipes() as context:
                print("a plain line")
                context.report_custom_message(7)
        """)
    )
    pipes = PipesKubeRayJobClient(RayJobClient(kube_config=str(outside)))
    received: list[Any] = []
    ray_job = {
        "metadata": {"namespace": namespace},
        "spec": {
            "entrypoint": f"python {script}",
            "rayClusterSpec": _spec(cluster, tmp_path),
        },
    }

    @dg.op
    def scripted(context: dg.OpExecutionContext) -> None:
        received.extend(pipes.run(context=context, ray_job=ray_job).get_custom_messages())

    @dg.job
    def scripts() -> None:
        scripted()

    scripts.execute_in_process(tags={"dagster/image": cluster.image})
    assert received == [7]
    assert "a plain line\n" in capfd.readouterr().out


def test_the_role_is_sufficient_for_the_cleanup(
    home: Home, cluster: Cluster, namespace: str, outside: Path, tmp_path: Path
) -> None:
    config = _backend(cluster, namespace, outside, tmp_path)
    launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": config}
    instance = home({"run_launcher": launcher})
    labels = {**owner_label(instance), "dagster/run-id": "00000000-0000-0000-0000-000000000000"}
    make_cluster(cluster, namespace, "left-behind", labels)
    found = reconcile(instance, launcher_backend(instance), unknown_grace_seconds=0)
    assert [one["outcome"] for one in found] == ["removed"], found
    assert names(cluster, namespace, "rayclusters") == []


def test_the_manifests_grant_exactly_what_the_component_and_the_host_need(
    cluster: Cluster, namespace: str, outside: Path
) -> None:
    component = _native.Component(
        built_in("kuberay"),
        settings={},
        authorities=[],
        kubernetes=json.dumps({"kubeconfig": str(outside)}),
        programs={},
        directories=[],
    )
    for is_outside, tokens in [(False, False), (True, False), (False, True), (True, True)]:
        review = json.loads(component.review(namespace, tokens=tokens, outside=is_outside))
        expected = role_rules(outside=is_outside, tokens=tokens)
        assert _permissions(review["required"]) == _permissions(expected)
        # The account has the rules for outside, but not that for tokens.
        lacking = _permissions(review["missing"])
        assert lacking == ({("", "secrets", "get")} if tokens else set())


def test_no_request_of_the_account_was_refused(cluster: Cluster, outside: Path) -> None:
    """Runs last: the audit log has the requests of the tests above, also those of pods."""
    refused = [
        (event["verb"], event["requestURI"])
        for event in cluster.requests("dagster-ray")
        if event["user"].get("username", "").endswith(":dagster-ray")
        and event.get("responseStatus", {}).get("code") == 403
    ]
    assert refused == []


def _permissions(rules: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
