"""Runs and steps as RayJobs on a real Kubernetes control plane."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from cluster import Cluster
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster._core.test_utils import create_run_for_test
from kube_objects import allow, cluster_spec, names
from processes import wait_for

CODE = """
import json
import os
from pathlib import Path

import dagster as dg
from dagster_ray import ray_executor

HERE = Path(__file__).parent


@dg.op
def first():
    return os.uname().nodename


@dg.op(tags={"dagster-ray/config": {"env_vars": ["GREETING=hello"]}})
def second(before):
    result = f"{before} {os.uname().nodename} {os.environ['GREETING']}"
    (HERE / "result").write_text(result)


@dg.job(executor_def=ray_executor, resource_defs={"io_manager": dg.FilesystemIOManager()})
def chain():
    second(first())


@dg.op
def stays():
    import time

    try:
        time.sleep(600)
    finally:
        # Longer than the deletion of a cluster takes.
        time.sleep(5)
        (HERE / "cleaned").touch()


@dg.job(executor_def=ray_executor)
def waits():
    stays()


@dg.op
def takes_a_while():
    import time

    time.sleep(15)


@dg.job(executor_def=ray_executor)
def goes_on():
    takes_a_while()


def says_where(context):
    result = os.uname().nodename, os.environ.get("FROM_THE_MANIFEST", "nothing")
    (HERE / context.op_handle.name).write_text(" ".join(result))


OWN = HERE / "own.json"
OWN_TAG = {"dagster-ray/config": OWN.read_text()} if OWN.exists() else {}


@dg.job(executor_def=ray_executor)
def differ():
    dg.op(name="as_all")(says_where)()
    dg.op(name="with_its_own", tags=OWN_TAG)(says_where)()
"""


@pytest.fixture
def placement() -> str:
    return "own"


@pytest.fixture
def instance(
    home, cluster: Cluster, namespace: str, tmp_path: Path, monkeypatch, placement: str
) -> Any:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    allow(cluster, namespace)
    job = {"spec": {"rayClusterSpec": cluster_spec(cluster, tmp_path)}}
    config = {
        "backend": "kuberay",
        "backend_config": {
            "namespace": namespace,
            "image": cluster.image,
            "ray_job": job,
            "cluster": placement,
        },
    }
    launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": config}
    return home({"run_launcher": launcher})


def _launched(
    instance: dg.DagsterInstance, folder: Path, name: str, image: str | None = None
) -> dg.DagsterRun:
    """Launches a run of a job whose code location has this image."""
    file = folder / "runs.py"
    file.write_text(CODE)
    origin = ReconstructableJob.for_file(str(file), name).get_python_origin()
    repository = origin.repository_origin._replace(container_image=image)
    run = create_run_for_test(
        instance,
        job_name=name,
        job_code_origin=origin._replace(repository_origin=repository),
        status=dg.DagsterRunStatus.STARTING,
    )
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    return run


def _succeeds(instance: dg.DagsterInstance, run: dg.DagsterRun, seconds: float) -> bool:
    def ended() -> dg.DagsterRun | None:
        now = instance.get_run_by_id(run.run_id)
        health = instance.run_launcher.check_run_worker_health(run)
        assert now and (now.is_finished or health.status == WorkerStatus.RUNNING), health
        return now if now.is_finished else None

    status = wait_for("the run", ended, seconds, 1).status
    log = [entry.user_message or entry.message for entry in instance.all_logs(run.run_id)]
    assert status == dg.DagsterRunStatus.SUCCESS, "\n".join(log)
    return True


@pytest.mark.timeout(300)
@pytest.mark.parametrize("placement", [pytest.param("own", marks=pytest.mark.nightly), "shared"])
def test_steps_use_dedicated_clusters_or_share_one(
    instance: dg.DagsterInstance, cluster: Cluster, namespace: str, tmp_path: Path, placement: str
) -> None:
    run = _launched(instance, tmp_path, "chain")
    assert names(cluster, namespace, "rayjobs") == [f"dg-run-{run.run_id}"]
    assert _succeeds(instance, run, 200)
    first, second, greeting = (tmp_path / "result").read_text().split()
    assert greeting == "hello"
    assert (first == second) == (placement == "shared")
    wait_for(
        "the deletion of the shared cluster", lambda: not _loose_clusters(cluster, namespace), 30
    )


@pytest.mark.nightly
@pytest.mark.timeout(300)
@pytest.mark.parametrize("placement", ["shared"])
def test_the_image_of_the_code_location_is_that_of_the_run_and_its_steps(
    home, cluster: Cluster, namespace: str, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    launcher = instance.get_ref().run_launcher_data
    assert launcher is not None
    config = yaml.safe_load(launcher.config_yaml)
    del config["backend_config"]["image"]
    launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": config}
    instance = home({"run_launcher": launcher})
    run = _launched(instance, tmp_path, "chain", cluster.image)
    [job] = cluster.custom.list_namespaced_custom_object("ray.io", "v1", namespace, "rayjobs")[
        "items"
    ]
    pod = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == cluster.image
    assert _succeeds(instance, run, 200)
    current = instance.get_run_by_id(run.run_id)
    assert current is not None and current.tags["dagster/image"] == cluster.image


@pytest.mark.timeout(300)
@pytest.mark.parametrize("placement", ["shared"])
def test_one_op_can_have_its_own_manifest(
    instance: dg.DagsterInstance, cluster: Cluster, namespace: str, tmp_path: Path, placement: str
) -> None:
    spec = cluster_spec(cluster, tmp_path)
    [container] = spec["headGroupSpec"]["template"]["spec"]["containers"]
    container["env"] = [{"name": "FROM_THE_MANIFEST", "value": "this"}]
    container["resources"]["requests"]["memory"] = "3Gi"
    container["resources"]["limits"]["memory"] = "3Gi"
    manifest = {"metadata": {"labels": {"team": "models"}}, "spec": {"rayClusterSpec": spec}}
    own = {"cluster": "own", "ray_job": manifest}
    (tmp_path / "own.json").write_text(json.dumps(own))
    run = _launched(instance, tmp_path, "differ")
    assert _succeeds(instance, run, 250)

    # There is one RayJob for the run and one for this op. The other op uses the shared cluster.
    jobs = cluster.custom.list_namespaced_custom_object("ray.io", "v1", namespace, "rayjobs")
    [own_job] = [job for job in jobs["items"] if job["metadata"]["name"] != f"dg-run-{run.run_id}"]
    assert len(jobs["items"]) == 2
    assert own_job["metadata"]["labels"]["team"] == "models"
    assert own_job["metadata"]["labels"]["dagster/op"] == "with_its_own"
    pod = own_job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["memory"] == "3Gi"
    node, variable = (tmp_path / "with_its_own").read_text().split()
    assert node.startswith("dg-step-") and variable == "this"
    node, variable = (tmp_path / "as_all").read_text().split()
    assert node.startswith("dg-steps-") and variable == "nothing"


def _loose_clusters(cluster: Cluster, namespace: str) -> list[str]:
    return [one for one in names(cluster, namespace, "rayclusters") if one.startswith("dg-steps-")]


def _step_started(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    started = dg.DagsterEventType.STEP_START
    wait_for("the step", lambda: instance.all_logs(run.run_id, of_type=started), 120, 1)


@pytest.mark.timeout(300)
def test_a_run_survives_restarts_of_the_api_server_and_the_operator(
    instance: dg.DagsterInstance, own_cluster: Cluster, tmp_path: Path
) -> None:
    run = _launched(instance, tmp_path, "goes_on")
    _step_started(instance, run)
    own_cluster.restart_operator()
    own_cluster.restart_apiserver()
    assert _succeeds(instance, run, 150)


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_a_step_whose_head_is_killed_fails_with_a_reason(
    instance: dg.DagsterInstance, own_cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    run = _launched(instance, tmp_path, "waits")
    _step_started(instance, run)
    [head] = [
        pod.metadata.name
        for pod in own_cluster.core.list_namespaced_pod(namespace).items
        if pod.metadata.name.startswith("dg-step-")
    ]
    own_cluster.kill_containers(namespace, head)

    def ended() -> dg.DagsterRun | None:
        now = instance.get_run_by_id(run.run_id)
        return now if now and now.is_finished else None

    assert wait_for("the run's end", ended, 200, 1).status == dg.DagsterRunStatus.FAILURE
    [failure] = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    assert "Ray" in str(failure.get_dagster_event().step_failure_data.error), failure


@pytest.mark.timeout(240)
def test_terminating_a_run_deletes_its_jobs_and_clusters(
    instance: dg.DagsterInstance, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    run = _launched(instance, tmp_path, "waits")

    _step_started(instance, run)
    assert len(names(cluster, namespace, "rayjobs")) == 2
    assert instance.run_launcher.terminate(run.run_id)
    assert (tmp_path / "cleaned").exists(), "the step had no time to clean up"
    now = instance.get_run_by_id(run.run_id)
    assert now and now.status == dg.DagsterRunStatus.CANCELED
    wait_for("the deletion of the jobs", lambda: not names(cluster, namespace, "rayjobs"), 60)
    wait_for(
        "the deletion of the clusters", lambda: not names(cluster, namespace, "rayclusters"), 60
    )
