"""The configuration classes for RayCluster and RayJob manifests, in every accepted spelling."""

import warnings
from typing import Any

import dagster as dg
import pytest
from dagster_ray import kuberay, lazy_names
from dagster_ray.contract import DescribeClient
from dagster_ray.errors import InvalidConfigError
from dagster_ray.kuberay import (
    ClusterSharing,
    ClusterSharingHeartbeat,
    KubeRayCluster,
    PipesKubeRayJobClient,
    RayClusterConfig,
    RayClusterSpec,
    RayClusterUpgradeStrategy,
    RayJobConfig,
    RayJobSpec,
)
from dagster_ray.kuberay.backend import KubeRay
from dagster_ray.kuberay.configs import (
    DEFAULT_AUTOSCALER_OPTIONS,
    DEFAULT_HEAD_GROUP_SPEC,
    DEFAULT_WORKER_GROUP_SPECS,
    AuthOptions,
    InteractiveRayJobConfig,
    InteractiveRayJobSpec,
    NetworkPolicyConfig,
    TLSOptions,
    deployment_name,
)
from dagster_ray.testing import SimulatedRay

# The arguments are validated before the context is used.
NO_CONTEXT: Any = None
GROUPS = [{"groupName": "w", "replicas": 1, "template": {"snake_case": None}}]
# The parts of a RayClusterSpec that it has without being asked.
PARTS: dict[str, Any] = {
    "autoscalerOptions": DEFAULT_AUTOSCALER_OPTIONS,
    "enableInTreeAutoscaling": False,
    "headGroupSpec": DEFAULT_HEAD_GROUP_SPEC,
    "workerGroupSpecs": DEFAULT_WORKER_GROUP_SPECS,
}
CLUSTER = {"apiVersion": "ray.io/v1", "kind": "RayCluster"}
JOB = {"apiVersion": "ray.io/v1", "kind": "RayJob"}


def test_every_exported_name_can_be_imported() -> None:
    for name in kuberay.__all__:
        assert getattr(kuberay, name) is not None, name
    assert set(kuberay.__all__) == set(lazy_names.imports(kuberay.__name__))
    assert deployment_name() == kuberay.DEFAULT_DEPLOYMENT_NAME


def test_flat_and_nested_configuration_give_the_same_manifest_and_modify_no_input() -> None:
    before = repr(GROUPS)
    flat = RayClusterConfig(
        enable_in_tree_autoscaling=True,  # type: ignore[call-arg]
        worker_group_specs=GROUPS,
        namespace="pipelines",
    )
    spec = RayClusterSpec(enable_in_tree_autoscaling=True, worker_group_specs=GROUPS)
    nested = RayClusterConfig(metadata={"namespace": "pipelines", "name": None}, spec=spec)
    assert flat.to_k8s() == nested.to_k8s()
    assert flat.to_k8s() == {
        **CLUSTER,
        "metadata": {"namespace": "pipelines"},
        "spec": {**PARTS, "enableInTreeAutoscaling": True, "workerGroupSpecs": GROUPS},
    }
    assert repr(GROUPS) == before


def test_unknown_fields_are_passed_on_in_camel_case_and_duplicates_are_refused() -> None:
    spec: dict[str, Any] = {"headGroupSpec": {"a": 1}, "new_field_of_kuberay": [], "suspend": False}
    assert RayClusterSpec(**spec).to_k8s() == {
        **PARTS,
        "headGroupSpec": {"a": 1},
        "newFieldOfKuberay": [],
        "suspend": False,
    }
    job: dict[str, Any] = {"runtimeEnvYaml": "a: 1"}
    assert RayJobSpec(**job).to_k8s() == {"runtimeEnvYAML": "a: 1", "rayClusterSpec": PARTS}
    with pytest.raises(ValueError, match="runtimeEnvYAML is given twice"):
        RayJobSpec(**{**job, "runtimeEnvYAML": "a: 2"})
    with pytest.raises(ValueError, match="headGroupSpec is given twice"):
        RayClusterSpec(headGroupSpec={"a": 1}, head_group_spec={}).to_k8s()  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="suspend: given both"):
        RayClusterConfig(suspend=True, spec={"suspend": True})  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="namespace: given both"):
        RayClusterConfig(namespace="a", metadata={"namespace": "b"})  # type: ignore[call-arg]


def test_camel_case_fields_are_validated_like_snake_case_fields() -> None:
    own: dict[str, Any] = {"submissionMode": "InteractiveMode"}
    assert InteractiveRayJobSpec(**own).to_k8s() == {**own, "rayClusterSpec": PARTS}
    with pytest.raises(ValueError, match="InteractiveMode"):
        InteractiveRayJobSpec(submissionMode="HTTPMode")  # type: ignore[call-arg]
    auth: dict[str, Any] = {"mode": "token", "enableK8sTokenAuth": True}
    cluster: dict[str, Any] = {"rayVersion": "2.55.0", "authOptions": auth}
    assert RayClusterSpec(**cluster).to_k8s() == {**PARTS, **cluster}
    with pytest.raises(ValueError, match="a RayJob cannot use"):
        RayJobSpec(rayClusterSpec=cluster)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="newField is given twice"):
        RayClusterSpec(new_field=1, newField=2)  # type: ignore[call-arg]


def test_launchpad_and_python_configuration_give_the_same_manifest() -> None:
    seen: list[dict[str, Any]] = []

    @dg.op
    def takes(config: InteractiveRayJobConfig) -> None:
        seen.append(config.to_k8s())

    @dg.job
    def job() -> None:
        takes()  # pyright: ignore[reportCallIssue]

    own: dict[str, Any] = {"headGroupSpec": {"a": None}}
    spec = {"submissionMode": "InteractiveMode", "rayClusterSpec": own}
    written: dict[str, Any] = {"metadata": {"namespace": "pipelines"}, "spec": spec}
    job.execute_in_process(run_config={"ops": {"takes": {"config": written}}})
    assert seen == [InteractiveRayJobConfig(**written).to_k8s()]
    whole = {**spec, "rayClusterSpec": {**PARTS, **own}}
    assert seen == [{**JOB, "metadata": written["metadata"], "spec": whole}]


@pytest.mark.parametrize(
    ("version", "message"),
    [(None, "set ray_version"), ("2.51.0", "2.52.0 or later"), ("nightly", "not a version")],
)
def test_token_authentication_requires_a_ray_version_that_supports_it(
    version: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        RayClusterSpec(ray_version=version, auth_options=AuthOptions())
    RayClusterSpec(ray_version="2.52.0", auth_options=AuthOptions())


def test_the_deployment_name_is_the_git_branch_only_in_branch_deployments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DAGSTER_CLOUD_IS_BRANCH_DEPLOYMENT", raising=False)
    monkeypatch.setenv("DAGSTER_CLOUD_DEPLOYMENT_NAME", "prod")
    monkeypatch.setenv("DAGSTER_CLOUD_GIT_BRANCH", "feature")
    assert deployment_name() == "prod"
    monkeypatch.setenv("DAGSTER_CLOUD_IS_BRANCH_DEPLOYMENT", "1")
    assert deployment_name() == "feature"


def test_skip_init_and_skip_cleanup_set_the_lifecycle() -> None:
    older: dict[str, Any] = {"skip_init": True, "skip_cleanup": True}
    resource = KubeRayCluster(**older)
    assert (resource.lifecycle.connect, resource.lifecycle.cleanup) == (False, "never")
    assert resource.lifecycle.create


def test_deleting_takes_either_clusters_or_match_labels() -> None:
    from dagster_ray.kuberay.ops import DeleteKubeRayClustersConfig

    for given in ({}, {"match_labels": {"a": "b"}, "cluster_names": ["c"]}):
        with pytest.raises(ValueError, match="either `clusters` or `match_labels`"):
            DeleteKubeRayClustersConfig(**given)
    assert DeleteKubeRayClustersConfig(cluster_names=["c"])


def test_two_different_runtime_environments_of_a_script_are_refused() -> None:
    def run(**spec: Any) -> None:
        PipesKubeRayJobClient().run(context=NO_CONTEXT, ray_job={"spec": spec})

    with pytest.raises(InvalidConfigError, match="leave one of them out") as raised:
        run(entrypoint="true", runtimeEnvYAML="pip: [a]", runtimeEnvYaml="pip: [b]")
    [field] = raised.value.fields or []
    assert field["path"] == "ray_job.spec.runtimeEnvYaml"
    for spelling in ("runtimeEnvYAML", "runtimeEnvYaml"):
        with pytest.raises(InvalidConfigError, match=f"{spelling}: is list, not a mapping"):
            run(**{"entrypoint": "true", spelling: "[a]"})


@pytest.mark.parametrize(
    "spec",
    [
        {"runtimeEnvYAML": "pip: [a]", "runtimeEnvYaml": "{pip: [a]}"},
        {"runtimeEnvYAML": None, "runtimeEnvYaml": "pip: [a]"},
        {"runtimeEnvYAML": "pip: [a]", "runtimeEnvYaml": None},
        {"runtimeEnvYaml": {"pip": ["a"]}},
    ],
)
def test_equal_runtime_environments_of_a_script_are_accepted(
    spec: dict[str, Any], simulated_ray: SimulatedRay
) -> None:
    client = PipesKubeRayJobClient()

    @dg.op
    def scripted(context: dg.OpExecutionContext) -> None:
        client.run(context=context, ray_job={"spec": {"entrypoint": "true", **spec}})

    @dg.job
    def scripts() -> None:
        scripted()

    assert scripts.execute_in_process().success
    [job] = simulated_ray.jobs
    assert job.runtime_env["pip"] == ["a"]


def test_every_ray_job_field_is_written_with_kuberays_name() -> None:
    written: dict[str, Any] = {
        "active_deadline_seconds": 1,
        "pre_running_deadline_seconds": 2,
        "backoff_limit": 3,
        "ray_cluster_spec": {
            "managed_by": "kueue",
            "autoscaler_options": {"idleTimeoutSeconds": 1},
            "head_service_annotations": {"a": "b"},
            "gcs_fault_tolerance_options": {"redisAddress": "redis:6379"},
            "upgrade_strategy": RayClusterUpgradeStrategy(type="Recreate"),
            "head_group_spec": None,
            "worker_group_specs": None,
            "tls_options": TLSOptions(enabled=True),
            "network_policy": NetworkPolicyConfig(mode="DenyAll", worker_groups=[{"a": 1}]),
            "history_server_options": {"collector_options": {"image_pull_policy": "Always"}},
        },
        "submitter_pod_template": {"spec": {}},
        "submitter_config": {"backoffLimit": 1},
        "metadata": {"k": "v"},
        "cluster_selector": {"ray.io/cluster": "c"},
        "managed_by": "kueue",
        "deletion_strategy": {"onSuccess": {"policy": "DeleteCluster"}},
        "runtime_env_yaml": "pip: []",
        "job_id": "j",
        "submission_mode": "HTTPMode",
        "entrypoint_resources": "{}",
        "entrypoint_num_cpus": 0.5,
        "entrypoint_memory": 100.0,
        "entrypoint_num_gpus": 1.0,
        "ttl_seconds_after_finished": 10,
        "shutdown_after_job_finishes": True,
        "suspend": False,
    }
    assert set(written) == set(RayJobSpec.model_fields)
    config = RayJobConfig(metadata={"namespace": "pipelines"}, spec=RayJobSpec(**written))
    assert (config.kind, config.api_version, config.namespace) == (
        "RayJob",
        "ray.io/v1",
        "pipelines",
    )
    assert config.to_k8s() == {
        **JOB,
        "metadata": {"namespace": "pipelines"},
        "spec": {
            "activeDeadlineSeconds": 1,
            "preRunningDeadlineSeconds": 2,
            "backoffLimit": 3,
            "rayClusterSpec": {
                "managedBy": "kueue",
                "autoscalerOptions": {"idleTimeoutSeconds": 1},
                "headServiceAnnotations": {"a": "b"},
                "gcsFaultToleranceOptions": {"redisAddress": "redis:6379"},
                "upgradeStrategy": {"type": "Recreate"},
                "enableInTreeAutoscaling": False,
                "tlsOptions": {"enabled": True},
                "networkPolicy": {"mode": "DenyAll", "workerGroups": [{"a": 1}]},
                "historyServerOptions": {"collectorOptions": {"imagePullPolicy": "Always"}},
            },
            "submitterPodTemplate": {"spec": {}},
            "submitterConfig": {"backoffLimit": 1},
            "metadata": {"k": "v"},
            "clusterSelector": {"ray.io/cluster": "c"},
            "managedBy": "kueue",
            "deletionStrategy": {"onSuccess": {"policy": "DeleteCluster"}},
            "runtimeEnvYAML": "pip: []",
            "jobId": "j",
            "submissionMode": "HTTPMode",
            "entrypointResources": "{}",
            "entrypointNumCpus": 0.5,
            "entrypointMemory": 100.0,
            "entrypointNumGpus": 1.0,
            "ttlSecondsAfterFinished": 10,
            "shutdownAfterJobFinishes": True,
            "suspend": False,
        },
    }
    with pytest.raises(ValueError, match="Recreate"):
        RayClusterUpgradeStrategy(type="Rolling")  # type: ignore[arg-type]


def test_conflicting_options_of_token_authentication_are_refused() -> None:
    named = AuthOptions(secret_name="s")
    spec = RayClusterSpec(ray_version="2.55.0", auth_options=named)
    assert spec.to_k8s()["authOptions"] == {"mode": "token", "secretName": "s"}
    both = AuthOptions(secret_name="s", enable_k8s_token_auth=True)
    disabled = AuthOptions(mode="disabled", enable_k8s_token_auth=True)
    for options, problem in (
        (both, "exclude each other"),
        (disabled, "needs auth_options.mode: token"),
    ):
        with pytest.raises(ValueError, match=problem):
            RayClusterSpec(ray_version="2.55.0", auth_options=options)


def test_a_lease_shorter_than_two_heartbeats_gives_a_warning() -> None:
    with pytest.warns(UserWarning, match="at least twice heartbeat.refresh_seconds"):
        ClusterSharing(enabled=True, ttl_seconds=19)
    slower = ClusterSharingHeartbeat(refresh_seconds=60)
    with pytest.warns(UserWarning, match="renewed every 60 s"):
        ClusterSharing(enabled=True, ttl_seconds=119, heartbeat=slower)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ClusterSharing(enabled=True, ttl_seconds=20)
        ClusterSharing(enabled=True, ttl_seconds=120, heartbeat=slower)
        ClusterSharing(enabled=False, ttl_seconds=1)
        ClusterSharing(
            enabled=True, ttl_seconds=1, heartbeat=ClusterSharingHeartbeat(enabled=False)
        )


def test_the_default_lease_is_the_components() -> None:
    description = DescribeClient(KubeRay()).describe()
    options: Any = description["options"]["cluster"]
    declared = options["$defs"]["Sharing"]["properties"]["ttl_seconds"]["default"]
    assert declared == ClusterSharing().ttl_seconds
