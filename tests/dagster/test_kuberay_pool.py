"""Runs on the clusters of a pool, on a real Kubernetes control plane."""

import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from cluster import Cluster
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster._core.test_utils import create_run_for_test
from dagster_ray.reconcile.launcher_backend import launcher_backend
from dagster_ray.reconcile.reconciliation import describe, reconcile
from example_commands import EXAMPLES
from kube_objects import allow, cluster_spec, make_cluster, names, owner_label
from processes import wait_for

Launch = Callable[..., dg.DagsterRun]

CODE = """
import os
import time
from pathlib import Path

import dagster as dg
from dagster_ray import ray_executor

HERE = Path(__file__).parent


@dg.op
def stays(context):
    name = os.uname().nodename
    (HERE / f"node-{context.run_id}").write_text(name)
    while not (HERE / "end").exists():
        time.sleep(0.2)


@dg.job(executor_def=ray_executor)
def waits():
    stays()
"""

LAUNCH_AND_DIE = """
import os, signal
import dagster as dg
from dagster._core.launcher import LaunchRunContext

with dg.DagsterInstance.from_config({home!r}) as instance:
    run = instance.get_run_by_id({run_id!r})
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def instance(
    home, cluster: Cluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dg.DagsterInstance:
    """The Dagster home of examples/warm-pool, on the test cluster."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    allow(cluster, namespace)
    settings = yaml.safe_load((EXAMPLES / "warm-pool/dagster.yaml").read_text())
    config = settings["run_launcher"]["config"]["backend_config"]
    assert config["cluster"] == "pool"
    config |= {
        "namespace": namespace,
        "image": cluster.image,
        "ray_job": {"spec": {"rayClusterSpec": cluster_spec(cluster, tmp_path)}},
    }
    return home(settings)


@pytest.fixture
def create(instance: dg.DagsterInstance, tmp_path: Path) -> Launch:
    """Returns a function that creates a run of the job `waits`, or of a job of a file."""
    (tmp_path / "runs.py").write_text(CODE)

    def make(
        name: str = "waits", file: Path = tmp_path / "runs.py", pool: dict[str, Any] | None = None
    ) -> dg.DagsterRun:
        return create_run_for_test(
            instance,
            job_name=name,
            job_code_origin=ReconstructableJob.for_file(str(file), name).get_python_origin(),
            status=dg.DagsterRunStatus.STARTING,
            tags={} if pool is None else {"dagster-ray/config": json.dumps({"pool": pool})},
        )

    return make


@pytest.fixture
def launch(instance: dg.DagsterInstance, create: Launch) -> Launch:
    """Returns a function that launches a run in this process."""

    def start(*arguments: Any, **options: Any) -> dg.DagsterRun:
        run = create(*arguments, **options)
        instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
        return run

    return start


def _leases(cluster: Cluster, namespace: str) -> dict[str, str | None]:
    """Returns the run that has leased each cluster, by the cluster's name."""
    listed = cluster.custom.list_namespaced_custom_object("ray.io", "v1", namespace, "rayclusters")
    return {
        one["metadata"]["name"]: one["metadata"]["labels"].get("dagster-ray/pool-run")
        for one in listed["items"]
        if "deletionTimestamp" not in one["metadata"]
    }


def _of(leases: dict[str, str | None], run: dg.DagsterRun) -> str:
    [name] = [name for name, run_id in leases.items() if run_id == run.run_id]
    return name


def _node(instance: dg.DagsterInstance, run: dg.DagsterRun, folder: Path) -> str:
    """Returns the name of the pod on which the step of a run runs, once it runs."""
    file = folder / f"node-{run.run_id}"

    def found() -> str | None:
        now = instance.get_run_by_id(run.run_id)
        assert now and not now.is_finished, _log(instance, run)
        return file.read_text() if file.exists() else None

    return wait_for("the step", found, 200, 0.5)


def _log(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    entries = instance.all_logs(run.run_id)
    return "\n".join(entry.user_message or entry.message for entry in entries)


def _succeeds(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    def ended() -> dg.DagsterRun | None:
        now = instance.get_run_by_id(run.run_id)
        health = instance.run_launcher.check_run_worker_health(run)
        assert now and (now.is_finished or health.status == WorkerStatus.RUNNING), health
        return now if now.is_finished else None

    status = wait_for("the run", ended, 150, 0.5).status
    assert status == dg.DagsterRunStatus.SUCCESS, _log(instance, run)
    return _log(instance, run)


@pytest.mark.timeout(400)
def test_runs_lease_warm_clusters_alone_and_return_them(
    instance: dg.DagsterInstance,
    create: Launch,
    launch: Launch,
    cluster: Cluster,
    namespace: str,
    tmp_path: Path,
) -> None:
    first = create()
    body = LAUNCH_AND_DIE.format(home=instance.root_directory, run_id=first.run_id)
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(body)], check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    leases = _leases(cluster, namespace)
    of_first = _of(leases, first)
    assert len(leases) == 2, "the pool keeps one cluster ready beside the leased one"

    # The lease of a killed process holds: its run goes on.
    second = launch(pool={"size": 1, "max": 2})
    leases = _leases(cluster, namespace)
    of_second = _of(leases, second)
    assert of_second != of_first and len(leases) == 2
    nodes = {_node(instance, run, tmp_path) for run in (first, second)}
    assert {node.rsplit("-head-", 1)[0] for node in nodes} == {of_first, of_second}
    kept = [describe(one) for one in reconcile(instance, launcher_backend(instance), dry_run=True)]
    for run, name in ((first, of_first), (second, of_second)):
        [line] = [line for line in kept if name in line]
        assert line.startswith("Kept: RayCluster") and run.run_id in line, kept

    # A full pool makes a launch wait, and then fail with the runs that use it.
    with pytest.raises(Exception, match=f"{of_first}.*{first.run_id}"):
        launch(pool={"size": 1, "max": 2, "wait_seconds": 3})

    (tmp_path / "end").touch()
    for run in (first, second):
        _succeeds(instance, run)
    before = names(cluster, namespace, "rayclusters")
    third = launch("hourly", EXAMPLES / "warm-pool/definitions.py", pool={"size": 1, "max": 2})
    log = _succeeds(instance, third)
    assert names(cluster, namespace, "rayclusters") == before, "the run has a cluster of its own"
    assert "it is ready" in log, log
    nodes = {line.rsplit(" ", 1)[1] for line in log.splitlines() if " runs on " in line}
    assert len(nodes) == 1 and nodes.pop().rsplit("-head-", 1)[0] in before


@pytest.mark.timeout(300)
def test_failed_and_idle_clusters_go_and_those_of_others_stay(
    instance: dg.DagsterInstance,
    launch: Launch,
    cluster: Cluster,
    namespace: str,
    tmp_path: Path,
) -> None:
    pool = {"size": 1, "max": 3}
    first = launch(pool=pool)
    leases = _leases(cluster, namespace)
    of_first = _of(leases, first)
    [warm] = set(leases) - {of_first}
    path = ("ray.io", "v1", namespace, "rayclusters")

    def is_ready() -> bool:
        found = cluster.custom.get_namespaced_custom_object(*path, warm)
        return found.get("status", {}).get("state") == "ready"

    # KubeRay has no failure that a test can cause in seconds and that leaves the cluster in place.
    # It writes the status of a cluster whose pods do not change only every few minutes.
    wait_for("the warm cluster", is_ready, 200, 0.5)
    status = {"status": {"state": "failed", "reason": "the test says so"}}
    cluster.custom.patch_namespaced_custom_object_status(*path, warm, status)
    second = launch(pool={**pool, "size": 0})
    leases = _leases(cluster, namespace)
    of_second = _of(leases, second)
    assert of_second not in (warm, of_first) and warm not in leases

    # A terminated run's cluster that is ready returns to the pool, which keeps none in the end.
    _node(instance, first, tmp_path)
    assert instance.run_launcher.terminate(first.run_id)
    assert _leases(cluster, namespace)[of_first] is None
    labels = {"dagster-ray/role": "pool-cluster", "dagster-ray/pool": "p"}
    other = {"dagster-ray/deployment": "another"}
    make_cluster(cluster, namespace, "of-another", {**labels, **other})
    make_cluster(cluster, namespace, "unlabelled", labels)
    idle = {"size": 0, "max": 3, "idle_seconds": 0, "unused_seconds": 86_400, "reuse": 10}
    note = {"metadata": {"annotations": {"dagster-ray/pool-options": json.dumps(idle)}}}
    for name in (of_first, of_second):
        cluster.custom.patch_namespaced_custom_object(*path, name, note)

    def lines(*, dry_run: bool) -> list[str]:
        found = reconcile(instance, launcher_backend(instance), dry_run=dry_run)
        return [describe(one) for one in found]

    for verb, dry_run in (("Would remove", True), ("Removed", False)):
        found = lines(dry_run=dry_run)
        assert any(verb in line and of_first in line and "idle" in line for line in found), found
        assert any("Kept" in line and of_second in line for line in found), found
        for name in ("of-another", "unlabelled"):
            assert any("Left alone" in line and name in line for line in found), found
    assert names(cluster, namespace, "rayclusters") == sorted(
        [of_second, "of-another", "unlabelled"]
    )
    assert owner_label(instance).items() <= _labels(cluster, namespace, of_second).items()


def _labels(cluster: Cluster, namespace: str, name: str) -> dict[str, str]:
    path = ("ray.io", "v1", namespace, "rayclusters")
    return cluster.custom.get_namespaced_custom_object(*path, name)["metadata"]["labels"]
