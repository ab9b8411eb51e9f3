"""Checks of the project that need no Ray: each one passes with `dagster-ray` 0.4.8, too.

`python checks.py`, run in an environment with the line of requirements.txt, executes them.
"""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_ray.core.pipes import tail_logs
from dagster_ray.core.run_launcher import get_job_submission_id_from_run_id
from dagster_ray.kuberay.utils import (
    merge_extra_k8s_fields,
    normalize_k8s_label_values,
    remove_none_from_dict,
    to_camel_case,
)

sys.path.insert(0, str(Path(__file__).parent))

from station import clusters, elsewhere, operations, settings


def check_modules_name_the_same_objects() -> None:
    for first, *others in elsewhere.ALIKE:
        assert all(other is first for other in others), first
    assert {"ray_address", "ray_job_id"} == elsewhere.KEYS
    assert elsewhere.CLUSTER_OBJECT == "ray.io/v1/rayclusters/RayCluster"
    assert (operations.API_VERSION, operations.OBJECT) == ("ray.io/v1", "rayjobs/RayJob")
    assert elsewhere.STORED_IN == "dagster-ray"


def check_configuration_is_read() -> None:
    assert (settings.READING.num_cpus, settings.LAUNCHER.env_vars) == (0.5, ["TZ=UTC"])
    assert (settings.EXECUTOR.num_gpus, settings.CONNECTION.metadata) == (1, {"team": "sky"})
    assert settings.DATA.execution_options.cpu == 4
    assert settings.SHARING.ttl_seconds == 900
    assert settings.EXPIRY["DAGSTER_RAY_NAMESPACES"] == "ray"
    assert settings.EXPIRY["DAGSTER_RAY_CLUSTER_EXPIRATION_SECONDS"] == "14400"
    assert ("KUBERNETES_SERVICE_HOST" in os.environ) == settings.RUNS_IN_A_POD


def check_manifests_have_kuberays_form() -> None:
    context = dg.build_op_context()
    spec: Any = settings.cluster_spec().to_k8s(context, image="i", env_vars={"TZ": "UTC"})
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["idleTimeoutSeconds"] == 30
    assert spec["authOptions"] == {"mode": "token", "secretName": "station-token"}
    assert spec["upgradeStrategy"] == {"type": "Recreate"}
    assert spec["tlsOptions"] == {"enabled": True}
    groups = {"mode": "DenyAllIngress", "workerGroups": [{"groupName": "a"}]}
    assert spec["networkPolicy"] == groups
    collector = {"image": "collector", "imagePullPolicy": "IfNotPresent"}
    assert spec["historyServerOptions"] == {"collectorOptions": collector}
    [workers] = spec["workerGroupSpecs"]
    assert (workers["minReplicas"], workers["maxReplicas"]) == (0, 3)
    for group in (spec["headGroupSpec"], workers):
        [container] = group["template"]["spec"]["containers"]
        assert container["image"] == "i"
        assert {"name": "TZ", "value": "UTC"} in container["env"]
    job: Any = settings.forecast_job().to_k8s(context, image="i", labels={"a": "b"})
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["metadata"]["labels"] == {"season": "winter", "a": "b"}
    deadlines = (job["spec"]["activeDeadlineSeconds"], job["spec"]["preRunningDeadlineSeconds"])
    assert deadlines == (3600, 600)
    assert job["spec"]["submissionMode"] == "InteractiveMode"
    assert job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplicas"] == 1
    scripted: Any = settings.scripted_job().to_k8s(context, image="i")
    assert scripted["runtimeEnvYAML"] == "pip: [dagster-pipes]"
    token = settings.by_kubernetes_token().auth_options
    assert token is not None and token.to_k8s()["enableK8sTokenAuth"] is True


def check_resources_are_configured() -> None:
    shared, own = clusters.shared_cluster(), clusters.forecast_cluster()
    assert shared.namespace == own.namespace == settings.NAMESPACE
    assert shared.resolve_hostname("head", "ns") == "head.ns.station.example"
    assert own.resolve_hostname("head", "ns") == "head.ns.svc.cluster.local"
    injected = own.get_env_vars_to_inject()
    assert (injected["RAY_PROFILING"], injected["STATION_DEPLOYMENT"]) == ("1", "dev")
    assert injected["TZ"] == "UTC"
    assert clusters.nearby().created
    assert own.lifecycle.cleanup == "on_exception" and not own.lifecycle.connect


def check_functions_give_the_same_results() -> None:
    labels = {"dagster.io/user": "a+b@example.com", "path": "_x//y_"}
    assert normalize_k8s_label_values(labels) == {
        "dagster/user": "a-plus-b-at-example.com",
        "path": "x-y",
    }
    assert to_camel_case("idle_timeout_seconds") == "idleTimeoutSeconds"
    assert merge_extra_k8s_fields({"a": 1}, {"b_c": 2}) == {"a": 1, "bC": 2}
    assert remove_none_from_dict({"a": None, "b": 1}) == {"b": 1}
    assert get_job_submission_id_from_run_id("r") == "dagster-run-r"
    assert get_job_submission_id_from_run_id("r", 2) == "dagster-run-r-2"

    async def lines() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    assert list(tail_logs(lines())) == ["a", "b"]


def check_the_code_location_loads() -> None:
    from station.definitions import SEASON_ENDS, defs

    repository = defs.get_repository_def()
    assert {"hourly", "end_of_season", "delete_kuberay_clusters"} <= set(repository.job_names)
    assert repository.has_sensor_def("cleanup_expired_kuberay_clusters")
    assert SEASON_ENDS.to_config_dict()["ops"]["delete_kuberay_clusters_op"]["config"]["clusters"]


CHECKS = [check for name, check in sorted(vars().items()) if name.startswith("check_")]

if __name__ == "__main__":
    for check in CHECKS:
        check()
        sys.stdout.write(f"{check.__name__}: passed\n")
