"""What the station asks of Ray and Kubernetes."""

from typing import Any

from dagster_ray import Lifecycle
from dagster_ray.configs import (
    DAGSTER_RAY_CLUSTER_EXPIRATION_SECONDS_DEFAULT_VALUE,
    DAGSTER_RAY_CLUSTER_EXPIRATION_SECONDS_ENV_VAR,
    DAGSTER_RAY_NAMESPACES_DEFAULT_VALUE,
    DAGSTER_RAY_NAMESPACES_ENV_VAR,
    USER_DEFINED_RAY_KEY,
    ExecutionOptionsConfig,
    RayDataExecutionOptions,
    RayExecutionConfig,
    RayJobSubmissionClientConfig,
)
from dagster_ray.core.executor import RayExecutorConfig
from dagster_ray.core.run_launcher import RayLauncherConfig
from dagster_ray.kuberay import ClusterSharing, ClusterSharingHeartbeat, RayClusterSpec, RayJobSpec
from dagster_ray.kuberay.configs import (
    DEFAULT_AUTOSCALER_OPTIONS,
    DEFAULT_CLUSTER_SHARING_TTL_SECONDS,
    DEFAULT_HEAD_GROUP_SPEC,
    DEFAULT_WORKER_GROUP_SPECS,
    MIN_RAY_VERSION_FOR_K8S_TOKEN_AUTH,
    MIN_RAY_VERSION_FOR_TOKEN_AUTH,
    AuthOptions,
    CollectorOptions,
    HistoryServerOptions,
    MatchDagsterLabels,
    NetworkPolicyConfig,
    RayClusterUpgradeStrategy,
    TLSOptions,
    in_k8s,
)
from dagster_ray.kuberay.resources.rayjob import InteractiveRayJobConfig, InteractiveRayJobSpec

NAMESPACE = "station"
IMAGE = "registry.example/station:1"
# An hour of readings needs one CPU and little memory.
HEAVY_STEP = {USER_DEFINED_RAY_KEY: {"num_cpus": 1, "memory": 100 * 2**20}}
EXPIRY = {
    DAGSTER_RAY_NAMESPACES_ENV_VAR: DAGSTER_RAY_NAMESPACES_DEFAULT_VALUE,
    DAGSTER_RAY_CLUSTER_EXPIRATION_SECONDS_ENV_VAR: (
        DAGSTER_RAY_CLUSTER_EXPIRATION_SECONDS_DEFAULT_VALUE
    ),
}

MANUAL = Lifecycle(create=True, wait=False, connect=False, cleanup="on_exception")
READING = RayExecutionConfig.from_tags({USER_DEFINED_RAY_KEY: '{"num_cpus": 0.5}'})
CONNECTION = RayJobSubmissionClientConfig(address="http://head:8265", metadata={"team": "sky"})
LAUNCHER = RayLauncherConfig(address="http://head:8265", env_vars=["TZ=UTC"])
EXECUTOR = RayExecutorConfig(num_gpus=1, env_vars=["TZ=UTC"])
DATA = RayDataExecutionOptions(
    execution_options=ExecutionOptionsConfig(cpu=4, object_store_memory=10**9), use_polars=False
)

SHARING = ClusterSharing(
    enabled=True,
    match_dagster_labels=MatchDagsterLabels(git_sha=False),
    match_labels={"season": "winter"},
    ttl_seconds=DEFAULT_CLUSTER_SHARING_TTL_SECONDS / 2,
    heartbeat=ClusterSharingHeartbeat(enabled=True, refresh_seconds=20),
)


def workers(most: int) -> list[dict[str, Any]]:
    """Returns a group of workers that may grow to a number."""
    [group] = DEFAULT_WORKER_GROUP_SPECS
    return [{**group, "maxReplicas": most}]


def cluster_spec(most: int = 3) -> RayClusterSpec:
    """Returns the cluster of the station, with each option that KubeRay has for it."""
    return RayClusterSpec(
        ray_version=MIN_RAY_VERSION_FOR_TOKEN_AUTH,
        enable_in_tree_autoscaling=True,
        autoscaler_options={**DEFAULT_AUTOSCALER_OPTIONS, "idleTimeoutSeconds": 30},
        head_group_spec={**DEFAULT_HEAD_GROUP_SPEC, "rayStartParams": {"num-cpus": "0"}},
        worker_group_specs=workers(most),
        auth_options=AuthOptions(mode="token", secret_name="station-token"),
        upgrade_strategy=RayClusterUpgradeStrategy(type="Recreate"),
        tls_options=TLSOptions(enabled=True),
        network_policy=NetworkPolicyConfig(
            mode="DenyAllIngress", worker_groups=[{"groupName": "a"}]
        ),
        history_server_options=HistoryServerOptions(
            collector_options=CollectorOptions(image="collector", image_pull_policy="IfNotPresent")
        ),
    )


def by_kubernetes_token() -> RayClusterSpec:
    """Returns a cluster whose clients authenticate with their service account."""
    auth = AuthOptions(enable_k8s_token_auth=True)
    return RayClusterSpec(ray_version=MIN_RAY_VERSION_FOR_K8S_TOKEN_AUTH, auth_options=auth)


def forecast_job() -> InteractiveRayJobConfig:
    """Returns the RayJob of a forecast."""
    return InteractiveRayJobConfig(
        metadata={"namespace": NAMESPACE, "labels": {"season": "winter"}},
        spec=InteractiveRayJobSpec(
            active_deadline_seconds=3600,
            pre_running_deadline_seconds=600,
            ttl_seconds_after_finished=60,
            ray_cluster_spec=cluster_spec(most=1),
        ),
    )


def scripted_job() -> RayJobSpec:
    """Returns the spec of a RayJob that executes a script."""
    return RayJobSpec(
        submission_mode="HTTPMode",
        runtime_env_yaml="pip: [dagster-pipes]",
        entrypoint_num_cpus=1,
        entrypoint_resources='"{\\"thermometer\\": 1}"',
        shutdown_after_job_finishes=True,
    )


RUNS_IN_A_POD = in_k8s
