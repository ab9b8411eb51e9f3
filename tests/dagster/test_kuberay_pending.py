"""Suspended, queued and ended RayJobs and clusters, on a real Kubernetes control plane."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from cluster import Cluster
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.monitoring.run_monitoring import monitor_starting_run
from dagster_ray import pending
from dagster_ray.contract import ExecutorClient, StepSpec
from dagster_ray.errors import CancelledError
from dagster_ray.kuberay.backend import KubeRay
from dagster_ray.launcher import pending_runs
from kube_objects import cluster_spec, names
from processes import wait_for

CODE = """
import dagster as dg


@dg.op
def works():
    pass


@dg.job(executor_def=dg.in_process_executor)
def works_alone():
    works()
"""

Launch = Callable[..., tuple[dg.DagsterInstance, dg.DagsterRun]]


@pytest.fixture
def launch(
    home: Callable[[dict[str, Any]], dg.DagsterInstance],
    cluster: Cluster,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Launch:
    """Launches a run whose worker would end at once."""
    monkeypatch.setattr(pending, "_PATIENCE_SECONDS", 1)
    monkeypatch.setattr(pending_runs, "_INTERVAL_SECONDS", 1)

    def launched(
        spec: dict[str, Any], monitoring: dict[str, Any] | None = None, **options: Any
    ) -> tuple[dg.DagsterInstance, dg.DagsterRun]:
        config = {
            "backend": "kuberay",
            "kube_config": str(cluster.kubeconfig),
            "backend_config": {
                "namespace": namespace,
                "image": cluster.image,
                "ray_job": {"spec": {"rayClusterSpec": cluster_spec(cluster, tmp_path), **spec}},
                **options,
            },
        }
        launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": config}
        instance = home(
            {"run_launcher": launcher, **({"run_monitoring": monitoring} if monitoring else {})}
        )
        file = tmp_path / "code.py"
        file.write_text(CODE)
        job = ReconstructableJob.for_file(str(file), "works_alone")
        run = create_run_for_test(
            instance,
            job_name="works_alone",
            job_code_origin=job.get_python_origin(),
            status=dg.DagsterRunStatus.STARTING,
        )
        instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
        return instance, run

    return launched


def _reported(instance: dg.DagsterInstance, run: dg.DagsterRun, part: str) -> Callable[[], bool]:
    def reported() -> bool:
        entries = instance.all_logs(run.run_id)
        return any(part in (entry.user_message or entry.message) for entry in entries)

    return reported


def _patched(cluster: Cluster, namespace: str, plural: str, name: str, spec: Any) -> None:
    cluster.custom.patch_namespaced_custom_object(
        "ray.io", "v1", namespace, plural, name, {"spec": spec}
    )


def test_a_suspended_run_is_pending_and_says_so(
    launch: Launch, cluster: Cluster, namespace: str
) -> None:
    instance, run = launch({"suspend": True})
    wait_for("the reason", _reported(instance, run, "is suspended and waits"), 30, 0.5)
    health = instance.run_launcher.check_run_worker_health(run)
    assert health.status == WorkerStatus.RUNNING, health
    [name] = names(cluster, namespace, "rayjobs")
    job = cluster.custom.get_namespaced_custom_object("ray.io", "v1", namespace, "rayjobs", name)
    assert "activeDeadlineSeconds" not in job["spec"]
    # Kueue admits a RayJob by this change.
    _patched(cluster, namespace, "rayjobs", name, {"suspend": False})
    wait_for("the cluster", lambda: names(cluster, namespace, "rayclusters"), 30)
    instance.run_launcher.terminate(run.run_id)
    wait_for("no job", lambda: not names(cluster, namespace, "rayjobs"), 30)


def test_the_event_log_shows_an_exceeded_quota_and_an_image_that_cannot_be_pulled(
    launch: Launch, cluster: Cluster, namespace: str
) -> None:
    instance, run = launch({}, image="does-not-exist:1")
    wait_for("the reason", _reported(instance, run, "ImagePull"), 60, 0.5)
    limits = {"requests.cpu": "0"}
    quota = {"metadata": {"name": "small"}, "spec": {"hard": limits}}
    cluster.core.create_namespaced_resource_quota(namespace, quota)
    # The test cluster has no quota controller, which would set the status.
    status = {"status": {"hard": limits, "used": limits}}
    cluster.core.patch_namespaced_resource_quota_status("small", namespace, status)
    instance, run = launch({})
    wait_for("the reason", _reported(instance, run, "exceeded quota: small"), 60, 0.5)
    assert instance.run_launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING


@pytest.mark.nightly
def test_a_run_that_does_not_start_in_time_leaves_no_rayjob(
    launch: Launch, cluster: Cluster, namespace: str
) -> None:
    monitoring = {"enabled": True, "start_timeout_seconds": 1}
    instance, run = launch({"suspend": True}, monitoring)
    assert len(names(cluster, namespace, "rayjobs")) == 1
    instance.report_dagster_event(
        dg.DagsterEvent(
            event_type_value=dg.DagsterEventType.PIPELINE_STARTING.value, job_name="works_alone"
        ),
        run.run_id,
    )
    time.sleep(1)
    [record] = instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id]))
    monitor_starting_run(instance, record, logging.getLogger("test"))
    failed = instance.get_run_by_id(run.run_id)
    assert failed and failed.status == dg.DagsterRunStatus.FAILURE
    wait_for("the deletion of the job", lambda: not names(cluster, namespace, "rayjobs"), 90)


@pytest.mark.nightly
def test_the_rayjobs_of_ended_runs_are_deleted_after_their_ttl(
    launch: Launch, cluster: Cluster, namespace: str
) -> None:
    # KubeRay rejects this spec, so that the job ends without a cluster.
    instance, run = launch({"suspend": True, "shutdownAfterJobFinishes": False}, job_ttl_seconds=0)
    [ended] = names(cluster, namespace, "rayjobs")

    def state() -> str | None:
        job = cluster.custom.get_namespaced_custom_object(
            "ray.io", "v1", namespace, "rayjobs", ended
        )
        return job.get("status", {}).get("jobDeploymentStatus")

    wait_for("the end", lambda: state() == "ValidationFailed", 30)
    assert instance.run_launcher.check_run_worker_health(run).status == WorkerStatus.FAILED
    # A RayJob is kept for a minute at least.
    time.sleep(61)
    other, kept = launch({"suspend": True})
    # Each instance is a deployment of its own, and deletes only its own RayJobs.
    assert ended in names(cluster, namespace, "rayjobs")
    other.run_launcher.terminate(kept.run_id)
    again = create_run_for_test(
        instance,
        job_name="works_alone",
        job_code_origin=run.job_code_origin,
        status=dg.DagsterRunStatus.STARTING,
    )
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=again, workspace=None))
    wait_for("the deletion", lambda: ended not in names(cluster, namespace, "rayjobs"), 30)
    health = instance.run_launcher.check_run_worker_health(run)
    assert health.status == WorkerStatus.NOT_FOUND
    # Its end in Dagster does not depend on the object.
    assert instance.run_launcher.terminate(run.run_id)


@pytest.mark.nightly
def test_a_step_waits_for_a_suspended_shared_cluster_and_says_so(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    backend = KubeRay(namespace=namespace, kube_config=str(cluster.kubeconfig))
    executor = ExecutorClient(backend)
    spec = {**cluster_spec(cluster, tmp_path), "suspend": True}
    options = {
        "cluster": "shared",
        "cluster_timeout_seconds": 20,
        "image": cluster.image,
        "ray_job": {"spec": {"rayClusterSpec": spec}},
    }

    def step(key: str, **override: str) -> StepSpec:
        tags = [["dagster-ray/config", json.dumps(override)]] if override else []
        return {
            "deployment": "of-the-test",
            "run_id": "r",
            "step_key": key,
            "attempt": 0,
            "job_name": "j",
            "code_location": None,
            "command": {"argv": ["true"], "payload": None, "env": []},
            "tags": tags,
            "options": json.dumps(options),
        }

    lines: list[str] = []
    launch = executor.start_launch([step("a")], write=lambda _, message: lines.append(message))

    def says_why() -> bool:
        # Reports arrive when the call is polled, as the executor does in its health checks.
        assert not launch.done()
        return any("is suspended and waits" in line for line in lines)

    wait_for("the reason", says_why, 30)
    [planned] = executor.plan([step("a")])
    assert isinstance(planned, dict) and "job" in planned
    # The time in the queue does not count.
    time.sleep(21)
    assert not launch.done()
    launch.cancel()
    with pytest.raises(CancelledError):
        launch.result(10)
    [stopped] = executor.terminate([planned["job"]])
    assert stopped["ended"]
    # The namespace of a step's tag differs from that of the configuration.
    configured = json.dumps({**options, "namespace": "elsewhere"})
    executor.finish("r", configured, [])
    assert names(cluster, namespace, "rayclusters") == ["dg-steps-r"]
    executor.finish("r", configured, [step("a", namespace=namespace)["tags"]])
    wait_for("the deletion", lambda: not names(cluster, namespace, "rayclusters"), 30)
