"""The blocks of docs/scheduling.md that need KubeRay, on a real Kubernetes control plane."""

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
from dagster_ray import pending
from dagster_ray.launcher import pending_runs
from document_blocks import blocks, whole_page
from kube_objects import cluster_spec, names
from kubernetes import client
from processes import wait_for

PAGE = whole_page("docs/scheduling.md")
PRINTED = {
    block.heading: yaml.safe_load(block.text) for block in blocks(PAGE) if block.language == "yaml"
}
ON_KUBERNETES = [heading for heading in PRINTED if "backend" in PRINTED[heading]]
CODE = """
import dagster as dg


@dg.op
def works():
    pass


@dg.job(executor_def=dg.in_process_executor)
def works_alone():
    works()
"""


def test_each_block_is_tested() -> None:
    # test_job_ops.py has the other one.
    assert [*PRINTED.keys() - set(ON_KUBERNETES)] == ["Nodes of an existing Ray"]
    assert len(ON_KUBERNETES) == 4


def _merged(base: Any, printed: Any) -> Any:
    """Adds a printed manifest to one whose head starts fast."""
    if not isinstance(base, dict) or not isinstance(printed, dict):
        return printed
    both = {key: _merged(base[key], printed[key]) for key in base.keys() & printed.keys()}
    return {**base, **printed, **both}


def _assert_contains(found: Any, printed: Any, path: str = "") -> None:
    if isinstance(printed, dict):
        for key, value in printed.items():
            assert key in found, f"{path}.{key} is missing"
            _assert_contains(found[key], value, f"{path}.{key}")
    elif isinstance(printed, list):
        for index, value in enumerate(printed):
            _assert_contains(found[index], value, f"{path}.{index}")
    else:
        assert found == printed, path


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    "heading",
    [
        *ON_KUBERNETES[:2],
        *(pytest.param(heading, marks=pytest.mark.nightly) for heading in ON_KUBERNETES[2:]),
    ],
)
def test_labels_and_fields_arrive_on_the_objects(
    heading: str,
    home: Callable[[dict[str, Any]], dg.DagsterInstance],
    cluster: Cluster,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The RayJob is suspended, as by Kueue: the run is pending with this reason until then."""
    monkeypatch.setattr(pending, "_PATIENCE_SECONDS", 1)
    monkeypatch.setattr(pending_runs, "_INTERVAL_SECONDS", 1)
    printed = PRINTED[heading]["backend_config"]["ray_job"]
    spec = {"suspend": True, "rayClusterSpec": cluster_spec(cluster, tmp_path)}
    options = {"namespace": namespace, "image": cluster.image}
    config = _merged(
        PRINTED[heading],
        {
            "kube_config": str(cluster.kubeconfig),
            "backend_config": {**options, "ray_job": _merged({"spec": spec}, printed)},
        },
    )
    launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": config}
    instance = home({"run_launcher": launcher})
    file = tmp_path / "code.py"
    file.write_text(CODE)
    run = create_run_for_test(
        instance,
        job_name="works_alone",
        job_code_origin=ReconstructableJob.for_file(str(file), "works_alone").get_python_origin(),
        status=dg.DagsterRunStatus.STARTING,
    )
    classes: Any = client.SchedulingV1Api(cluster.api())
    priority = client.V1PriorityClass(metadata=client.V1ObjectMeta(name="training"), value=1000)
    if "priorityClassName" in str(printed):
        classes.create_priority_class(priority)
    try:
        instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
        [name] = names(cluster, namespace, "rayjobs")

        def read(plural: str, name: str) -> Any:
            return cluster.custom.get_namespaced_custom_object(
                "ray.io", "v1", namespace, plural, name
            )

        _assert_contains(read("rayjobs", name), printed)

        def is_reported() -> bool:
            entries = instance.all_logs(run.run_id)
            texts = [entry.user_message or entry.message for entry in entries]
            return any("is suspended and waits" in text for text in texts)

        wait_for("the reason", is_reported, 30, 0.5)
        health = instance.run_launcher.check_run_worker_health(run)
        assert health.status == WorkerStatus.RUNNING, health
        cluster.custom.patch_namespaced_custom_object(
            "ray.io", "v1", namespace, "rayjobs", name, {"spec": {"suspend": False}}
        )
        [ray_cluster] = wait_for(
            "the cluster", lambda: names(cluster, namespace, "rayclusters"), 30
        )
        created = read("rayclusters", ray_cluster)
        labels = printed.get("metadata", {}).get("labels", {})
        _assert_contains(created["metadata"].get("labels", {}), labels)
        _assert_contains(created["spec"], printed.get("spec", {}).get("rayClusterSpec", {}))
        if "priorityClassName" in str(printed):
            pods = wait_for(
                "the pods", lambda: cluster.core.list_namespaced_pod(namespace).items, 60
            )
            assert {pod.spec.priority_class_name for pod in pods} == {"training"}
    finally:
        instance.run_launcher.terminate(run.run_id)
        if "priorityClassName" in str(printed):
            classes.delete_priority_class("training")
    wait_for("no job", lambda: not names(cluster, namespace, "rayjobs"), 30)
