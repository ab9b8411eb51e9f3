"""The conformance tests of the KubeRay component on a real Kubernetes control plane."""

import json
from pathlib import Path
from typing import Any

import manifests
import pytest
from cluster import Cluster
from kube_objects import names
from processes import wait_for
from test_conformance import run

# Most rules of these interfaces wait for a RayCluster or a RayJob of their own.
LONG = ("cluster", "executor", "pipes")
# The number of rules of each interface, and the reasons why some do not apply to RayJobs.
RULES = {"cluster": 14, "launcher": 21, "executor": 21, "pipes": 15, "reconciler": 7}
TAG = "the tag dagster-ray/config overrides the options field by field, including with 0"
UNSEEN = {TAG: "its first request does not contain its options"}
FAILURE = "a failing script is reported as failed with its exit code"
# Ray's Jobs API reports the exit code; the status of a RayJob does not.
CODELESS = {FAILURE: "its status of a script has no exit code"}
NOT_APPLICABLE = {"launcher": UNSEEN, "executor": UNSEEN, "pipes": CODELESS}


def _options(cluster: Cluster) -> dict[str, Any]:
    """Returns the base options of each interface. The heads use this machine and start fast."""
    spec = manifests.ray_cluster_spec(cluster.image)
    ray_job = {"spec": {"rayClusterSpec": spec}}
    brief = {"spec": {**ray_job["spec"], "ttlSecondsAfterFinished": 1}}
    return {
        "cluster": {"ray_cluster": {"spec": spec}},
        "launcher": {"ray_job": brief},
        "executor": {"ray_job": brief},
        # A script's output is read from the cluster after its end, so the RayJob has no short ttl.
        "pipes": {"ray_job": ray_job},
    }


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "interface",
    [pytest.param(name, marks=pytest.mark.nightly if name in LONG else ()) for name in RULES],
)
def test_each_interface_passes_the_conformance_tests(
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
    # An ended RayJob stays; its cluster is deleted once the ttl is over.
    jobs = cluster.custom.list_namespaced_custom_object("ray.io", "v1", namespace, "rayjobs")
    states = {
        job["metadata"]["name"]: job["status"]["jobDeploymentStatus"] for job in jobs["items"]
    }
    assert set(states.values()) <= {"Complete", "Failed"}, states
    if interface != "pipes":
        wait_for(
            "the deletion of the clusters", lambda: not names(cluster, namespace, "rayclusters"), 60
        )
