"""Cleanup of clusters whose process was killed, on a real Kubernetes control plane."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from cluster import Cluster
from dagster._core.remote_origin import RegisteredCodeLocationOrigin
from dagster._core.test_utils import create_run_for_test
from dagster_ray.kuberay import (
    KubeRayClusterClientResource,
    cleanup_expired_kuberay_clusters,
    cleanup_old_ray_clusters,
)
from kube_objects import cluster_spec, make_cluster, names, owner_label
from processes import wait_for


@pytest.fixture
def client(cluster: Cluster) -> KubeRayClusterClientResource:
    return KubeRayClusterClientResource(kube_config=str(cluster.kubeconfig))


KILLED = """
    import os, signal, sys, threading, time
    sys.path[:0] = {path!r}
    import dagster as dg
    from dagster_ray import Lifecycle
    from dagster_ray.kuberay import (
        InteractiveRayJobConfig,
        KubeRayCluster,
        KubeRayClusterClientResource,
        KubeRayInteractiveJob,
        KubeRayJobClientResource,
        RayClusterConfig,
    )

    stage = {stage!r}

    class Dies({resource}):
        def _called(self, context, export, arguments, **options):
            if export == stage.removeprefix("before "):
                if stage.startswith("before"):
                    os.kill(os.getpid(), signal.SIGKILL)
                if export == "cluster.wait":
                    threading.Timer(1, os.kill, (os.getpid(), signal.SIGKILL)).start()
            result = super()._called(context, export, arguments, **options)
            if export == stage:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        def on_connect(self, context):
            if stage == "connected":
                os.kill(os.getpid(), signal.SIGKILL)

    @dg.op(required_resource_keys={{"ray_cluster"}})
    def uses(context):
        pass

    metadata, spec = {{"namespace": {namespace!r}}}, {spec!r}
    if Dies.__base__ is KubeRayCluster:
        manifest = {{"ray_cluster": RayClusterConfig(metadata=metadata, spec=spec)}}
        client = KubeRayClusterClientResource(kube_config={kubeconfig!r})
    else:
        spec = {{"ray_cluster_spec": spec}}
        manifest = {{"ray_job": InteractiveRayJobConfig(metadata=metadata, spec=spec)}}
        client = KubeRayJobClientResource(kube_config={kubeconfig!r})
    resource = Dies(image="i", lifecycle=Lifecycle(cleanup="always"), client=client, **manifest)

    @dg.job(resource_defs={{"ray_cluster": resource}})
    def job():
        uses()

    with dg.DagsterInstance.from_config({home!r}) as instance:
        job.execute_in_process(instance=instance)
"""


# Six processes with a Ray cluster each.
@pytest.mark.nightly
@pytest.mark.timeout(480)
@pytest.mark.parametrize(
    ("resource", "plural", "connecting"),
    [
        ("KubeRayCluster", "rayclusters", ("connected",)),
        # After the connection, the RayJob gets the id of the Ray job that KubeRay has to follow.
        ("KubeRayInteractiveJob", "rayjobs", ("before cluster.update", "connected")),
    ],
)
def test_cleanup_deletes_exactly_the_clusters_of_killed_processes(
    home,
    cluster: Cluster,
    namespace: str,
    client: KubeRayClusterClientResource,
    resource: str,
    plural: str,
    connecting: tuple[str, ...],
) -> None:
    instance: dg.DagsterInstance = home({})
    path = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "cluster")]
    stages = (
        *("before cluster.create", "cluster.create", "cluster.wait", *connecting),
        *("before cluster.delete", "cluster.delete"),
    )
    started = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                textwrap.dedent(KILLED).format(
                    path=path,
                    resource=resource,
                    stage=stage,
                    namespace=namespace,
                    spec=cluster_spec(cluster),
                    kubeconfig=str(cluster.kubeconfig),
                    home=instance.root_directory,
                ),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for stage in stages
    ]
    assert [process.wait(300) for process in started] == [-signal.SIGKILL] * len(stages)
    left = names(cluster, namespace, plural)
    assert len(left) >= 3, left

    # Dagster's run monitoring would report these runs as failed; the test does so directly.
    with dg.DagsterInstance.from_config(str(instance.root_directory)) as seen:
        runs = seen.get_runs()
        assert len(runs) == len(stages)
        for run in runs:
            seen.report_run_failed(run)
        held = _held_by_a_starting_run(seen, cluster, namespace)
        config = {"namespace": namespace, "older_than_seconds": 0}
        job = cleanup_old_ray_clusters
        result = job.execute_in_process(
            run_config={"ops": {"cleanup_kuberay_clusters_op": {"config": config}}},
            resources={"raycluster_client": client},
            instance=seen,
        )
        assert result.success
    wait_for("no job", lambda: not names(cluster, namespace, "rayjobs"), 30)
    wait_for("the cleanup", lambda: names(cluster, namespace, "rayclusters") == [held], 30)
    pods = cluster.core
    wait_for(
        "the end of the pods",
        lambda: all(
            pod.metadata.labels.get("ray.io/cluster") == held
            for pod in pods.list_namespaced_pod(namespace).items
        ),
        60,
    )


def _held_by_a_starting_run(
    instance: dg.DagsterInstance,
    cluster: Cluster,
    namespace: str,
) -> str:
    run = create_run_for_test(instance, job_name="job", status=dg.DagsterRunStatus.STARTING)
    labels = {"dagster/run-id": run.run_id, **owner_label(instance)}
    make_cluster(cluster, namespace, "in-use", labels)
    return "in-use"


def test_the_sensor_requests_the_cleanup_of_its_code_locations_ended_runs(
    home,
    cluster: Cluster,
    namespace: str,
    client: KubeRayClusterClientResource,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DAGSTER_RAY_NAMESPACES", namespace)
    monkeypatch.setenv("DAGSTER_RAY_CLUSTER_EXPIRATION_SECONDS", "0")
    instance: dg.DagsterInstance = home({})
    over, under_way = (
        create_run_for_test(instance, job_name="job", status=status).run_id
        for status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.STARTED)
    )
    owner = owner_label(instance)
    here = {"dagster/code-location": "my-team-etl-at-prod", **owner}
    make_cluster(cluster, namespace, "left-over", {"dagster/run-id": over, **here})
    make_cluster(cluster, namespace, "in-use", {"dagster/run-id": under_way, **here})
    make_cluster(cluster, namespace, "of-others", {"dagster/run-id": over, **owner})
    resources = {"raycluster_client": client}

    def tick() -> list[Any]:
        context = dg.build_sensor_context(instance=instance, resources=resources)
        # A Kubernetes label cannot have this value, so it is converted.
        context._code_location_origin = RegisteredCodeLocationOrigin("my team/etl@prod")
        answer: Any = cleanup_expired_kuberay_clusters(context)
        return list(answer)

    [request] = tick()
    assert isinstance(request, dg.RunRequest)
    # The sensor itself deletes nothing.
    kept = ["in-use", "of-others"]
    assert names(cluster, namespace, "rayclusters") == sorted([*kept, "left-over"])
    result = cleanup_old_ray_clusters.execute_in_process(
        run_config=request.run_config,
        tags=dict(request.tags),
        resources=resources,
        instance=instance,
    )
    assert result.success
    wait_for("removed", lambda: names(cluster, namespace, "rayclusters") == kept, 30)
    [skipped] = tick()
    assert isinstance(skipped, dg.SkipReason)
