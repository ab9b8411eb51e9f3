"""The manifests of the configuration classes, and what a component makes of them."""

import copy
from typing import Any

import dagster as dg
import pytest
from dagster_ray.kuberay import (
    ClusterSharing,
    InteractiveRayJobConfig,
    MatchDagsterLabels,
    RayClusterConfig,
    RayClusterSpec,
    RayJobConfig,
    RayJobSpec,
)
from dagster_ray.kuberay.configs import (
    DEFAULT_AUTOSCALER_OPTIONS,
    DEFAULT_HEAD_GROUP_SPEC,
    DEFAULT_WORKER_GROUP_SPECS,
)
from dagster_ray.kuberay.utils import (
    k8s_service_fqdn,
    merge_extra_k8s_fields,
    normalize_k8s_label_values,
    remove_none_from_dict,
    to_camel_case,
)


def _containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [one for group in groups for one in group["template"]["spec"]["containers"]]


def test_a_cluster_has_a_head_and_up_to_one_worker_by_default() -> None:
    spec = RayClusterConfig().to_k8s()["spec"]
    assert spec["headGroupSpec"] == DEFAULT_HEAD_GROUP_SPEC
    assert spec["autoscalerOptions"] == DEFAULT_AUTOSCALER_OPTIONS
    [workers] = spec["workerGroupSpecs"]
    assert [workers] == DEFAULT_WORKER_GROUP_SPECS
    limits = (workers["minReplicas"], workers["replicas"], workers["maxReplicas"])
    assert limits == (0, 0, 1)
    job = InteractiveRayJobConfig().to_k8s()["spec"]["rayClusterSpec"]
    assert job["workerGroupSpecs"] == [workers]
    # `None` leaves a part out.
    assert "workerGroupSpecs" not in RayClusterSpec(worker_group_specs=None).to_k8s()


@pytest.mark.parametrize("kind", [RayClusterConfig, RayJobConfig, InteractiveRayJobConfig])
def test_a_manifest_is_a_new_document_each_time(kind: Any) -> None:
    config = kind(metadata={"namespace": "pipelines", "labels": {"a": "b"}, "finalizers": ["f"]})
    before, untouched = config.model_dump(), copy.deepcopy(DEFAULT_HEAD_GROUP_SPEC)
    given = {"image": "i", "labels": {"c": "d"}, "annotations": {"e": "f"}, "env_vars": {"K": "V"}}
    first, second = config.to_k8s(None, **given), config.to_k8s(None, **given)
    assert first == second
    assert first["metadata"] == {
        "namespace": "pipelines",
        "labels": {"a": "b", "c": "d"},
        "annotations": {"e": "f"},
        "finalizers": ["f"],
    }
    spec = first["spec"].get("rayClusterSpec", first["spec"])
    for container in _containers(spec):
        assert container["image"] == "i"
        assert container["env"] == [{"name": "K", "value": "V"}]
    spec["headGroupSpec"]["template"] = None
    spec["workerGroupSpecs"].clear()
    first["metadata"]["labels"].clear()
    assert config.to_k8s(None, **given) == second
    assert config.model_dump() == before and untouched == DEFAULT_HEAD_GROUP_SPEC
    plain = kind().to_k8s()["spec"]
    plain = plain.get("rayClusterSpec", plain)
    assert all("image" not in one and "env" not in one for one in _containers(plain))


def test_image_and_variables_are_added_only_where_the_user_sets_none() -> None:
    container = {"name": "head", "image": "own", "env": [{"name": "K", "value": "own"}]}
    head = {"template": {"spec": {"containers": [container, {"name": "sidecar"}]}}}
    spec = RayClusterSpec(head_group_spec=head, worker_group_specs=[])
    own, sidecar = _containers(spec.to_k8s(None, "i", {"K": "V", "L": "W"}))
    more = {"name": "L", "value": "W"}
    assert own == {**container, "env": [{"name": "K", "value": "own"}, more]}
    assert sidecar == {"name": "sidecar", "image": "i", "env": [{"name": "K", "value": "V"}, more]}


def test_a_rayjob_has_no_lifetime_that_its_deletion_strategy_contradicts() -> None:
    strategy = {"onSuccess": {"policy": "DeleteCluster"}}
    spec = RayJobSpec(deletion_strategy=strategy).to_k8s()
    assert spec.keys() == {"deletionStrategy", "rayClusterSpec"}


def test_a_rayjob_that_selects_a_cluster_has_no_default_cluster() -> None:
    selector = {"ray.io/cluster": "c"}
    assert RayJobSpec(cluster_selector=selector).to_k8s() == {"clusterSelector": selector}
    own = RayClusterSpec(ray_version="2.60.0")
    both = RayJobSpec(cluster_selector=selector, ray_cluster_spec=own)
    assert both.to_k8s().keys() == {"clusterSelector", "rayClusterSpec"}


def test_cluster_sharing_in_a_manifest_is_refused_with_the_right_place() -> None:
    misplaced: dict[str, Any] = {"cluster_sharing": ClusterSharing(enabled=True)}
    with pytest.raises(ValueError, match=r"KubeRayCluster\(cluster_sharing=ClusterSharing"):
        RayClusterConfig(**misplaced)
    with pytest.raises(ValueError, match="has no leases"):
        MatchDagsterLabels(cluster_sharing=False)


def test_label_values_are_valid_and_keys_have_the_current_prefix() -> None:
    labels = {
        "user": "first.last+tag@example.com",
        "path": "__my team//etl@prod__",
        "long": "-" + "x" * 62 + "_tail",
        "empty": "",
        "none": "___",
        "dagster.io/user": "u",
        "dagster.io/run_id": "r",
    }
    assert normalize_k8s_label_values(labels) == {
        "user": "first.last-plus-tag-at-example.com",
        "path": "my-team-etl-at-prod",
        "long": "x" * 62,
        "empty": "",
        "none": "",
        "dagster/user": "u",
        "dagster/run-id": "r",
    }
    assert labels["user"] == "first.last+tag@example.com"


def test_field_names_and_service_names_are_kuberays() -> None:
    assert to_camel_case("ttl_seconds_after_finished") == "ttlSecondsAfterFinished"
    assert to_camel_case("runtime_env_YAML") == "runtimeEnvYAML"
    assert remove_none_from_dict({"a": None, "b": 0, "c": {}}) == {"b": 0, "c": {}}
    assert merge_extra_k8s_fields({"a": 1}, {"new_field": 2, "other": None}) == {
        "a": 1,
        "newField": 2,
    }
    for extras in ({"a": 2}, {"new_field": 1, "newField": 2}):
        with pytest.raises(ValueError, match="is already set by"):
            merge_extra_k8s_fields({"a": 1}, extras)
    assert k8s_service_fqdn("head", "ray") == "head.ray.svc.cluster.local"


def test_run_config_in_kuberays_spelling_overrides_the_defaults() -> None:
    seen: list[dict[str, Any]] = []

    @dg.op
    def takes(config: RayClusterConfig) -> None:
        seen.append(config.to_k8s()["spec"])

    @dg.job
    def job() -> None:
        takes()  # pyright: ignore[reportCallIssue]

    given = {
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {"idleTimeoutSeconds": 1},
        "headGroupSpec": {"a": 1},
        "workerGroupSpecs": [],
    }
    run_config = {"ops": {"takes": {"config": {"spec": given}}}}
    job.execute_in_process(run_config=run_config)
    assert seen == [given]
    job.execute_in_process(run_config={"ops": {"takes": {"config": {"spec": {}}}}})
    assert seen[1] == RayClusterSpec().to_k8s()
