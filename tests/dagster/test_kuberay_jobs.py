"""Cleanup jobs and the cleanup sensor for clusters, on a real Kubernetes control plane.

The clusters are suspended, so that KubeRay starts no pods.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import manifests
import pytest
from cluster import Cluster
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.test_utils import create_run_for_test
from dagster_ray.contract import ClusterRef, Expirations
from dagster_ray.deployment import deployment_id
from dagster_ray.errors import DagsterRayError
from dagster_ray.kuberay import (
    CleanupKubeRayClustersConfig,
    DeleteKubeRayClustersConfig,
    KubeRayClusterClientResource,
    RayClusterClient,
    RayClusterRef,
    cleanup_expired_kuberay_clusters,
    cleanup_kuberay_clusters,
    cleanup_kuberay_clusters_op,
    cleanup_old_ray_clusters,
    delete_kuberay_clusters,
    ops,
)
from kube_objects import account_kubeconfig, make_cluster, names, owner_label, role_rules
from processes import wait_for

UNFINISHED = {
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
    dg.DagsterRunStatus.MANAGED,
}


@pytest.fixture
def client(cluster: Cluster) -> KubeRayClusterClientResource:
    return KubeRayClusterClientResource(kube_config=str(cluster.kubeconfig))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def _run(
    instance: dg.DagsterInstance,
    status: dg.DagsterRunStatus,
    tags: Mapping[str, str] | None = None,
) -> str:
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "repository")
    return create_run_for_test(
        instance,
        job_name="job",
        status=status,
        tags=tags,
        # Dagster requires an origin in a queued run.
        remote_job_origin=RemoteJobOrigin(repository, "job"),
    ).run_id


def _made_for(
    instance: dg.DagsterInstance, cluster: Cluster, namespace: str, name: str, run_id: str
) -> None:
    labels = {"dagster/run-id": run_id, **owner_label(instance)}
    make_cluster(cluster, namespace, name, labels)


def _cleaned(
    client: Any, namespace: str, instance: dg.DagsterInstance, **config: Any
) -> dg.ExecuteInProcessResult:
    config = {"namespace": namespace, "older_than_seconds": 0, **config}
    return cleanup_old_ray_clusters.execute_in_process(
        run_config={"ops": {"cleanup_kuberay_clusters_op": {"config": config}}},
        resources={"raycluster_client": client},
        instance=instance,
    )


def _join(client: KubeRayClusterClientResource, namespace: str, name: str) -> None:
    """Renews a lease on a cluster, as a step that shares it does."""
    known = {"name": name, "namespace": namespace, "uid": None, "details": None}
    client.client.backend_for().call("cluster.renew", {"cluster": known, "holder": "another step"})


def test_cleanup_keeps_the_clusters_of_unfinished_runs_and_unlabeled_clusters(
    cluster: Cluster,
    namespace: str,
    client: KubeRayClusterClientResource,
    instance: dg.DagsterInstance,
) -> None:
    kept = sorted(f"of-{status.value.lower().replace('_', '-')}" for status in UNFINISHED)
    for status in dg.DagsterRunStatus:
        name = f"of-{status.value.lower().replace('_', '-')}"
        _made_for(instance, cluster, namespace, name, _run(instance, status))
    unknown = "00000000-0000-0000-0000-000000000000"
    _made_for(instance, cluster, namespace, "of-an-unknown-run", unknown)
    make_cluster(cluster, namespace, "not-dagsters", {"team": "x"})
    assert _cleaned(client, namespace, instance).success
    wait_for(
        "the cleanup",
        lambda: names(cluster, namespace, "rayclusters") == sorted([*kept, "not-dagsters"]),
        30,
    )


def test_cleanup_keeps_the_clusters_of_other_deployments_and_of_none(
    cluster: Cluster,
    namespace: str,
    client: KubeRayClusterClientResource,
    instance: dg.DagsterInstance,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def left() -> list[str]:
        return names(cluster, namespace, "rayclusters")

    make_cluster(cluster, namespace, "of-none", {"dagster/run-id": "over"})
    _made_for(instance, cluster, namespace, "of-one", "over")
    with dg.DagsterInstance.ephemeral() as other:
        # For the first deployment, the run of the other one is unknown.
        live = _run(other, dg.DagsterRunStatus.STARTED)
        _made_for(other, cluster, namespace, "of-the-other", live)
        _made_for(other, cluster, namespace, "of-the-others-ended-run", "over")
        assert _cleaned(client, namespace, instance).success
        logged = capsys.readouterr().err
        reason = f"it belongs to the deployment {deployment_id(other)}."
        assert f"Left {namespace}/of-the-other alone: {reason}" in logged
        assert f"Left {namespace}/of-none alone: it has no label dagster-ray/deployment" in logged
        others = ["of-the-other", "of-the-others-ended-run"]
        wait_for("one cleanup", lambda: left() == ["of-none", *others], 30)
        assert _cleaned(client, namespace, other).success
        wait_for("the other cleanup", lambda: left() == ["of-none", "of-the-other"], 30)


def test_cleanup_deletes_clusters_older_than_the_limit_that_match_the_labels(
    cluster: Cluster,
    namespace: str,
    client: KubeRayClusterClientResource,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DAGSTER_RAY_CLUSTER_EXPIRATION_SECONDS", raising=False)
    assert CleanupKubeRayClustersConfig().older_than_seconds == 14_400
    assert CleanupKubeRayClustersConfig().namespace == "ray"
    monkeypatch.setenv("DAGSTER_RAY_CLUSTER_EXPIRATION_SECONDS", "60")
    assert CleanupKubeRayClustersConfig().older_than_seconds == 60
    labels = {"dagster/run-id": "over", "team": "x", **owner_label(instance)}
    make_cluster(cluster, namespace, "recent", labels)
    make_cluster(cluster, namespace, "recent-of-y", {**labels, "team": "y"})
    # Earlier releases call the job by this name.
    assert cleanup_kuberay_clusters is cleanup_old_ray_clusters
    assert _cleaned(client, namespace, instance, older_than_seconds=60).success
    assert names(cluster, namespace, "rayclusters") == ["recent", "recent-of-y"]
    # Labels are an additional condition, given as a selector or as a mapping.
    for selector in ("team=z", "team notin (x, y)"):
        assert _cleaned(client, namespace, instance, label_selector=selector).success
    assert _cleaned(client, namespace, instance, labels={"team": "z"}).success
    assert names(cluster, namespace, "rayclusters") == ["recent", "recent-of-y"]
    assert _cleaned(client, namespace, instance, label_selector="team=x").success
    wait_for(
        "the deletion of one cluster",
        lambda: names(cluster, namespace, "rayclusters") == ["recent-of-y"],
        30,
    )
    assert _cleaned(client, namespace, instance, labels={"team": "y"}).success
    wait_for(
        "the deletion of the other cluster",
        lambda: not names(cluster, namespace, "rayclusters"),
        30,
    )


def test_a_dry_run_logs_what_it_would_delete_and_deletes_nothing(
    cluster: Cluster,
    namespace: str,
    client: KubeRayClusterClientResource,
    instance: dg.DagsterInstance,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _made_for(instance, cluster, namespace, "left-over", "over")
    live = _run(instance, dg.DagsterRunStatus.STARTED)
    _made_for(instance, cluster, namespace, "in-use", live)
    assert _cleaned(client, namespace, instance, dry_run=True).success
    assert names(cluster, namespace, "rayclusters") == ["in-use", "left-over"]
    logged = capsys.readouterr().err
    assert f"Would delete {namespace}/left-over: no live run needs it (run: over, " in logged
    assert "Expired clusters: 1." in logged and "in-use" not in logged


def test_cleanup_deletes_the_other_clusters_when_one_cannot_be_deleted(
    cluster: Cluster,
    namespace: str,
    client: KubeRayClusterClientResource,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("broken", "gone", "in-use", "last"):
        _made_for(instance, cluster, namespace, name, "over")
    # The account may delete every cluster except `broken`.
    objects = {"apiGroups": ["ray.io"], "resources": ["rayclusters", "rayjobs"]}
    rules = [
        {**objects, "verbs": ["get", "list", "watch", "patch"]},
        {**objects, "verbs": ["delete"], "resourceNames": ["gone", "in-use", "last"]},
    ]
    kubeconfig = account_kubeconfig(cluster, namespace, "cleaner", rules, tmp_path)
    find_expired = ops.expired

    def changed_before_deletion(*arguments: Any) -> Expirations:
        found = find_expired(*arguments)
        assert len(found["expired"]) == 4
        _join(client, namespace, "in-use")
        client.client.delete("gone", namespace)
        wait_for("the deletion", lambda: not client.client.get("gone", namespace), 30)
        return found

    monkeypatch.setattr(ops, "expired", changed_before_deletion)
    cleaner = KubeRayClusterClientResource(kube_config=str(kubeconfig))
    with pytest.raises(dg.Failure) as raised:
        _cleaned(cleaner, namespace, instance)
    # A cluster that is gone already or in use again is not a failure.
    assert str(raised.value.description) == (
        f"these clusters could not be deleted: {namespace}/broken"
    )
    wait_for(
        "the last deletion",
        lambda: names(cluster, namespace, "rayclusters") == ["broken", "in-use"],
    )
    logged = capsys.readouterr().err
    assert f"{namespace}/gone is gone already." in logged
    assert f"Kept {namespace}/in-use: " in logged and "another step" in logged
    assert f"Deleted {namespace}/last." in logged


def test_clusters_are_deleted_by_name_or_label(
    cluster: Cluster,
    namespace: str,
    client: KubeRayClusterClientResource,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def deleted(config: DeleteKubeRayClustersConfig) -> None:
        result = delete_kuberay_clusters.execute_in_process(
            run_config=dg.RunConfig({"delete_kuberay_clusters_op": config}),
            resources={"raycluster_client": client},
        )
        assert result.success

    for name, team in {"one": "x", "older": "x", "of-y": "y", "kept": "z"}.items():
        make_cluster(cluster, namespace, name, {"team": team})
    deleted(
        DeleteKubeRayClustersConfig(
            # The namespace of a reference overrides the namespace of the op.
            clusters=[
                RayClusterRef(name="gone", namespace=namespace),
                RayClusterRef(name="one", namespace=namespace),
            ],
            cluster_names=["of-another-namespace"],
        )
    )
    wait_for(
        "the first deletion", lambda: "one" not in names(cluster, namespace, "rayclusters"), 30
    )
    deleted(DeleteKubeRayClustersConfig(namespace=namespace, cluster_names=["older"]))
    deleted(DeleteKubeRayClustersConfig(namespace=namespace, match_labels={"team": "y"}))
    wait_for(
        "the other deletions", lambda: names(cluster, namespace, "rayclusters") == ["kept"], 30
    )
    logged = capsys.readouterr().err
    assert f"Deleted {namespace}/one." in logged and f"{namespace}/gone is gone already." in logged
    assert "ray/of-another-namespace is gone already." in logged
    assert f"Deleted {namespace}/of-y." in logged and f"Deleted {namespace}/gone" not in logged


def test_the_cleanup_op_works_in_a_users_job_with_a_plain_client(
    cluster: Cluster, namespace: str, instance: dg.DagsterInstance
) -> None:
    """The resource may be a `RayClusterClient` itself instead of the resource that creates one."""
    _made_for(instance, cluster, namespace, "left-over", "over")

    @dg.job
    def own() -> None:
        cleanup_kuberay_clusters_op.alias("cleanup")()

    config = CleanupKubeRayClustersConfig(namespace=namespace, older_than_seconds=0)
    plain = RayClusterClient(kube_config=str(cluster.kubeconfig))
    result = own.execute_in_process(
        run_config=dg.RunConfig({"cleanup": config}),
        resources={"raycluster_client": plain},
        instance=instance,
    )
    assert result.success
    wait_for("the cleanup", lambda: not names(cluster, namespace, "rayclusters"), 30)


def _tick(
    client: KubeRayClusterClientResource, instance: dg.DagsterInstance
) -> tuple[list[dg.RunRequest], list[str | None]]:
    context = dg.build_sensor_context(instance=instance, resources={"raycluster_client": client})
    result: Any = cleanup_expired_kuberay_clusters(context)
    yielded = list(result)
    requests = [one for one in yielded if isinstance(one, dg.RunRequest)]
    return requests, [one.skip_message for one in yielded if isinstance(one, dg.SkipReason)]


def _made_job(instance: dg.DagsterInstance, cluster: Cluster, namespace: str, name: str) -> str:
    """Creates a suspended RayJob and returns its uid."""
    body = manifests.ray_job(name, cluster.image, "true")
    body["metadata"]["labels"] = {"dagster/run-id": "over", **owner_label(instance)}
    body["spec"]["suspend"] = True
    made = cluster.custom.create_namespaced_custom_object(
        "ray.io", "v1", namespace, "rayjobs", body
    )
    return made["metadata"]["uid"]


def test_cleanup_checks_the_sensors_findings_again_before_it_deletes(
    cluster: Cluster,
    namespace: str,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kubeconfig = account_kubeconfig(
        cluster, namespace, "here-only", role_rules(outside=False), tmp_path
    )
    client = KubeRayClusterClientResource(kube_config=str(kubeconfig))
    # The account may not list clusters in the first namespace.
    monkeypatch.setenv("DAGSTER_RAY_NAMESPACES", f"default, {namespace},{namespace}")
    monkeypatch.setenv("DAGSTER_RAY_CLUSTER_EXPIRATION_SECONDS", "0")
    _made_for(instance, cluster, namespace, "joined-since", "over")
    uid = _made_job(instance, cluster, namespace, "of-a-job")
    [request], skipped = _tick(client, instance)
    assert not skipped
    _join(client, namespace, "joined-since")
    result = cleanup_old_ray_clusters.execute_in_process(
        run_config=request.run_config,
        resources={"raycluster_client": client},
        instance=instance,
    )
    assert result.success
    wait_for("the job's end", lambda: not names(cluster, namespace, "rayjobs"), 30)
    assert names(cluster, namespace, "rayclusters") == ["joined-since"]

    _run(instance, dg.DagsterRunStatus.QUEUED, request.tags)
    monkeypatch.setenv("DAGSTER_RAY_NAMESPACES", namespace)
    assert _tick(client, instance) == (
        [],
        ["No cluster has expired, or a cleanup run is in progress."],
    )
    # A new RayJob of the same name has another uid and is kept.
    assert _made_job(instance, cluster, namespace, "of-a-job") != uid
    details = json.dumps({"kind": "RayJob", "only_if_unused": True})
    found: ClusterRef = {"name": "of-a-job", "namespace": namespace, "uid": uid, "details": details}
    ops._delete(dg.build_op_context(), client.client, [found])
    assert names(cluster, namespace, "rayjobs") == ["of-a-job"]


def test_a_sensor_without_access_to_any_namespace_fails(
    cluster: Cluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig = account_kubeconfig(cluster, namespace, "nothing", [], tmp_path)
    client = KubeRayClusterClientResource(kube_config=str(kubeconfig))
    monkeypatch.setenv("DAGSTER_RAY_NAMESPACES", "default,ray")
    with (
        dg.DagsterInstance.ephemeral() as instance,
        pytest.raises(DagsterRayError, match=r"rayclusters.*is forbidden|403"),
    ):
        _tick(client, instance)
    assert cleanup_expired_kuberay_clusters.minimum_interval_seconds == 300
