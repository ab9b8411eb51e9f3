"""What KubeRay's component promises, rule by rule on a real control plane."""

import json
from pathlib import Path
from typing import Any

import manifests
import pytest
from cluster import Cluster
from kube_objects import names
from processes import wait_for
from test_conformance import run

# How many rules each interface has, and the reasons why some do not apply to RayJobs.
RULES = {"cluster": 13, "launcher": 18, "executor": 18, "pipes": 14}
TAG = "the tag dagster-ray/config wins over the options, field by field, 0 included"
UNSEEN = {TAG: "what it sends first does not show its options"}
FAILURE = "a script that fails has failed, with its exit code"
# Ray's Jobs API has the exit code, KubeRay's status has not.
CODELESS = {FAILURE: "what it runs scripts with tells no exit code"}
NOT_APPLICABLE = {"launcher": UNSEEN, "executor": UNSEEN, "pipes": CODELESS}


def _options(cluster: Cluster) -> dict[str, Any]:
    """Options to begin with, by interface: heads of this machine, which start fast."""
    spec = manifests.ray_cluster_spec(cluster.image)
    ray_job = {"spec": {"rayClusterSpec": spec}}
    brief = {"spec": {**ray_job["spec"], "ttlSecondsAfterFinished": 1}}
    return {
        "cluster": {"ray_cluster": {"spec": spec}},
        "launcher": {"ray_job": brief},
        "executor": {"ray_job": brief},
        # Its output is read after its end, from the cluster.
        "pipes": {"ray_job": ray_job},
    }


# About 95, 35, 90 and 150 s on two cores: most rules of `pipes` wait for a RayJob of their own.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("interface", RULES)
def test_each_interface_keeps_the_contracts_promises(
    cluster: Cluster, namespace: str, tmp_path: Path, interface: str
) -> None:
    options = tmp_path / "options.json"
    options.write_text(json.dumps(_options(cluster)))
    done = run(
        *("--json", "check", "kuberay", "--only", interface, "--options", options),
        *("--kubeconfig", cluster.kubeconfig, "--setting", f"namespace={namespace}"),
    )
    findings = json.loads(done.stdout)["findings"]
    assert done.returncode == 0, json.dumps(findings, indent=1) + done.stderr
    assert len(findings) == RULES[interface]
    others = {one["rule"]: one for one in findings if one["outcome"] != "passed"}
    assert all(one["outcome"] == "not-applicable" for one in others.values()), others
    reasons = {rule: one["reason"] for rule, one in others.items()}
    assert reasons == NOT_APPLICABLE.get(interface, {})
    # A job that has ended stays, and its cluster goes after a time.
    jobs = cluster.custom.list_namespaced_custom_object("ray.io", "v1", namespace, "rayjobs")
    states = {
        job["metadata"]["name"]: job["status"]["jobDeploymentStatus"] for job in jobs["items"]
    }
    assert set(states.values()) <= {"Complete", "Failed"}, states
    if interface != "pipes":
        wait_for("the clusters to go", lambda: not names(cluster, namespace, "rayclusters"), 60)
