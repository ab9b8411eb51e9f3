"""`dagster-ray doctor` on a real control plane, with each failure made to happen."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from cluster import Cluster
from doctor_run import doctor, outcomes, shown
from kube_objects import account_kubeconfig, allow, cluster_spec, names, role_rules
from kubernetes import client
from processes import free_port

Home = Callable[[dict], dg.DagsterInstance]


@pytest.fixture(autouse=True)
def _no_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))


def _home(home: Home, namespace: str, kubeconfig: Path | None, **options: Any) -> str:
    config: dict[str, Any] = {
        "backend": "kuberay",
        "backend_config": {"namespace": namespace, **options},
    }
    if kubeconfig is not None:
        config["kube_config"] = str(kubeconfig)
    launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": config}
    return home({"run_launcher": launcher}).root_directory


def test_a_sound_cluster_passes_and_a_clusters_job_is_not_checked_by_default(
    home: Home, cluster: Cluster, namespace: str
) -> None:
    code, checks = doctor(home=_home(home, namespace, cluster.kubeconfig, image="ray:1"))
    found = outcomes(checks)
    assert code == 0, shown(checks)
    for name in ("kubernetes", "permissions", "crds", "operator"):
        assert found[name] == "ok", shown(checks)
    assert found["image"] == found["job"] == found["pod account"] == "not-checked"
    assert "--start-cluster" in checks["job"]["remedy"]
    assert names(cluster, namespace, "rayclusters") == []


def test_the_printed_rules_are_exactly_what_the_account_lacks(
    home: Home, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    rules = role_rules(outside=True)
    incomplete = [{**rules[0], "verbs": ["get", "list", "watch"]}, *rules[1:-1]]
    kubeconfig = account_kubeconfig(cluster, namespace, "incomplete", incomplete, tmp_path)
    where = _home(home, namespace, kubeconfig)
    code, checks = doctor("--no-job", home=where)
    assert (code, checks["permissions"]["outcome"]) == (1, "failed"), shown(checks)
    assert checks["operator"]["outcome"] == "not-checked"
    _, _, text = checks["permissions"]["remedy"].partition("\n")
    missing = yaml.safe_load(text)["rules"]
    assert {resource for rule in missing for resource in rule["resources"]} == {
        "rayclusters",
        "rayjobs",
        "rayservices",
        "pods/portforward",
    }
    # The rules apply to the same account.
    rbac: Any = client.RbacAuthorizationV1Api(cluster.api())
    [role] = [
        role
        for role in rbac.list_namespaced_role(namespace).items
        if role.metadata.name == "dagster-ray-incomplete"
    ]
    role.rules.extend(missing)
    rbac.replace_namespaced_role(role.metadata.name, namespace, role)
    time.sleep(1)
    code, checks = doctor("--no-job", home=where)
    assert (code, checks["permissions"]["outcome"]) == (0, "ok"), shown(checks)
    assert checks["operator"]["outcome"] == "ok", shown(checks)


def test_kubeconfigs_that_cannot_be_used_are_named(
    home: Home, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    _, checks = doctor(home=_home(home, namespace, None))
    assert checks["kubernetes"]["outcome"] == "failed", shown(checks)
    assert (
        "no kubeconfig" in checks["kubernetes"]["message"]
        or "none" in checks["kubernetes"]["message"]
    )

    document = yaml.safe_load(cluster.kubeconfig.read_text())
    for one in document["clusters"]:
        one["cluster"]["server"] = f"https://127.0.0.1:{free_port()}"
    file = tmp_path / "unreachable"
    file.write_text(yaml.safe_dump(document))
    _, checks = doctor(home=_home(home, namespace, file))
    assert checks["kubernetes"]["outcome"] == "failed"
    assert "cannot be reached" in checks["kubernetes"]["message"], shown(checks)

    document = yaml.safe_load(cluster.kubeconfig.read_text())
    document["users"] = [
        {"name": one["name"], "user": {"token": "wrong"}} for one in document["users"]
    ]
    file.write_text(yaml.safe_dump(document))
    _, checks = doctor(home=_home(home, namespace, file))
    assert checks["kubernetes"]["outcome"] == "failed"
    assert "credentials" in checks["kubernetes"]["message"], shown(checks)


def test_a_stopped_operator_fails(home: Home, own_cluster: Cluster, namespace: str) -> None:
    own_cluster.stop_program("kuberay-operator")
    try:
        code, checks = doctor("--no-job", home=_home(home, namespace, own_cluster.kubeconfig))
    finally:
        own_cluster.start_program("kuberay-operator")
    assert (code, checks["operator"]["outcome"]) == (1, "failed"), shown(checks)
    assert namespace in checks["operator"]["remedy"]
    assert checks["crds"]["outcome"] == "ok"


@contextmanager
def _crd(cluster: Cluster, name: str, change: Callable[[Any], None]) -> Iterator[None]:
    """Changes a CRD, and restores it."""
    api: Any = client.CustomObjectsApi(cluster.api())
    path = ("apiextensions.k8s.io", "v1", "customresourcedefinitions", name)
    before = api.get_cluster_custom_object(*path)

    def put(spec: Any) -> None:
        now = api.get_cluster_custom_object(*path)
        api.replace_cluster_custom_object(*path, {**now, "spec": spec})
        # The API server publishes its OpenAPI document a moment later.
        time.sleep(3)

    changed = api.get_cluster_custom_object(*path)["spec"]
    change(changed)
    put(changed)
    try:
        yield
    finally:
        put(before["spec"])


@pytest.mark.nightly
def test_crds_that_are_too_old_fail(home: Home, own_cluster: Cluster, namespace: str) -> None:
    def older(spec: Any) -> None:
        for version in spec["versions"]:
            status = version["schema"]["openAPIV3Schema"]["properties"]["status"]
            status["properties"].pop("rayJobInfo", None)

    where = _home(home, namespace, own_cluster.kubeconfig)
    with _crd(own_cluster, "rayjobs.ray.io", older):
        code, checks = doctor("--no-job", home=where)
    assert (code, checks["crds"]["outcome"]) == (1, "failed"), shown(checks)
    assert "1.4" in checks["crds"]["message"]


@pytest.mark.timeout(400)
def test_a_pods_job_cannot_open_an_sqlite_storage_of_another_machine(
    home: Home, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    allow(cluster, namespace)
    job = {"spec": {"rayClusterSpec": cluster_spec(cluster)}}
    where = _home(home, namespace, cluster.kubeconfig, image=cluster.image, ray_job=job)
    code, checks = doctor("--start-cluster", home=where)
    assert checks["job"]["outcome"] == "ok", shown(checks)
    assert checks["versions"]["outcome"] == "ok", shown(checks)
    assert (code, checks["storage"]["outcome"]) == (1, "failed"), shown(checks)
    assert f"{where}" in checks["storage"]["message"]
    assert "PostgreSQL" in checks["storage"]["remedy"]
    assert names(cluster, namespace, "rayjobs") == []
