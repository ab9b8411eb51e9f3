"""What the cleanup asks the component for, and what it does with the answers."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.test_utils import create_run_for_test
from dagster_ray.errors import ConflictError, DagsterRayError, UnavailableError
from dagster_ray.kuberay import (
    cleanup_expired_kuberay_clusters,
    cleanup_old_ray_clusters,
    delete_kuberay_clusters,
)

UNFINISHED = {
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
    dg.DagsterRunStatus.MANAGED,
}


class Component:
    """Stands in for the component, and keeps what it was asked."""

    def __init__(
        self, found: Mapping[str, list[dict[str, Any]]], refusals: Mapping[str, Exception] = {}
    ) -> None:
        self.found = found
        self.refusals = refusals
        self.gone = {"gone"}
        self.rules: list[dict[str, Any]] = []
        self.deleted: list[dict[str, Any]] = []

    def backend_for(self) -> "Component":
        return self

    def call(self, export: str, arguments: dict[str, Any]) -> Any:
        if export == "cluster.expired":
            self.rules.append(arguments["rule"])
            namespace = arguments["rule"]["query"]["namespace"]
            self._refuse(namespace)
            return [{"cluster": ref} for ref in self.found.get(namespace, [])]
        assert export == "cluster.delete"
        self.deleted.append(arguments["cluster"])
        self._refuse(arguments["cluster"]["name"])
        return arguments["cluster"]["name"] not in self.gone

    def _refuse(self, name: str) -> None:
        if name in self.refusals:
            raise self.refusals[name]


def _ref(name: str, namespace: str = "ray", **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": namespace, "uid": None, "details": None, **more}


def _run(
    instance: dg.DagsterInstance,
    status: dg.DagsterRunStatus,
    tags: Mapping[str, str] | None = None,
) -> dg.DagsterRun:
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "repository")
    return create_run_for_test(
        instance,
        job_name="job",
        status=status,
        tags=tags,
        remote_job_origin=RemoteJobOrigin(repository, "job"),  # A queued run has to have one.
    )


def _cleanup(component: Component, **options: Any) -> dg.ExecuteInProcessResult:
    return cleanup_old_ray_clusters.execute_in_process(
        resources={"raycluster_client": component}, **options
    )


def _tick(
    component: Component, instance: dg.DagsterInstance
) -> tuple[list[dg.RunRequest], list[str | None]]:
    context = dg.build_sensor_context(instance=instance, resources={"raycluster_client": component})
    answer: Any = cleanup_expired_kuberay_clusters(context)
    said = list(answer)
    requests = [one for one in said if isinstance(one, dg.RunRequest)]
    return requests, [one.skip_message for one in said if isinstance(one, dg.SkipReason)]


def test_a_run_that_is_not_over_keeps_its_clusters_whatever_it_waits_for() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        runs = {_run(instance, status).run_id: status for status in dg.DagsterRunStatus}
        component = Component({})
        _cleanup(component, instance=instance)
    [rule] = component.rules
    live = {run_id for run_id, status in runs.items() if status in UNFINISHED}
    assert set(rule["live_runs"]) & set(runs) == live
    assert rule["query"]["namespace"] == "ray" and rule["older_than_s"] == 14_400


def test_one_that_cannot_be_deleted_does_not_keep_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    refs = [_ref(name) for name in ("broken", "in-use", "gone", "last")]
    component = Component(
        {"ray": refs},
        {
            "broken": UnavailableError("the API server is away"),
            "in-use": ConflictError("in use by another"),
        },
    )
    with pytest.raises(dg.Failure) as raised:
        _cleanup(component)
    assert component.deleted == refs
    # Only what should have been deleted and was not is a failure.
    assert str(raised.value.description) == "could not be deleted: ray/broken"

    component = Component({})
    config = {"clusters": [{"name": "gone"}, {"name": "far", "namespace": "away"}]}
    config["cluster_names"] = ["older"]  # type: ignore[list-item]
    result = delete_kuberay_clusters.execute_in_process(
        run_config={"ops": {"delete_kuberay_clusters_op": {"config": config}}},
        resources={"raycluster_client": component},
    )
    assert result.success
    assert component.deleted == [_ref("gone"), _ref("far", "away"), _ref("older")]
    told = capsys.readouterr().err
    assert "Deleted away/far." in told and "ray/gone is gone already." in told
    assert "Deleted ray/gone" not in told


def test_what_the_sensor_found_is_looked_at_again_before_it_is_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DAGSTER_RAY_NAMESPACES", "closed, ours,empty,ours")
    job = _ref("of-a-job", "ours", uid="1", details='{"kind": "RayJob", "only_if_unused": true}')
    seen = Component({"ours": [_ref("joined-since", "ours"), job]}, {"closed": _closed()})
    with dg.DagsterInstance.ephemeral() as instance:
        [request], _ = _tick(seen, instance)
        later = Component({"ours": [job]})
        _cleanup(later, run_config=request.run_config, instance=instance)
        # The uid and the kind reach the component, which needs them to spare what is in use.
        assert later.deleted == [job]

        _run(instance, dg.DagsterRunStatus.QUEUED, request.tags)
        monkeypatch.setenv("DAGSTER_RAY_NAMESPACES", "ours,empty")
        assert _tick(seen, instance) == (
            [],
            ["No cluster is left over, or a cleanup is under way."],
        )


def test_a_sensor_that_can_look_nowhere_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_RAY_NAMESPACES", "closed,empty")
    component = Component({}, {"closed": _closed()})
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(DagsterRayError, match="403"):
        _tick(component, instance)


def _closed() -> DagsterRayError:
    return DagsterRayError("403: rayclusters is forbidden")
