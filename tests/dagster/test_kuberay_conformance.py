"""What KubeRay's component promises of clusters, rule by rule on a real control plane."""

import json
from pathlib import Path

import manifests
from cluster import Cluster
from kube_objects import names
from test_conformance import outcomes, run


def test_clusters_keep_the_contracts_promises(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    spec = manifests.ray_cluster_spec(cluster.image)
    options = tmp_path / "options.json"
    options.write_text(json.dumps({"cluster": {"ray_cluster": {"spec": spec}}}))
    done = run(
        *("--json", "check", "kuberay", "--only", "cluster", "--options", options),
        *("--kubeconfig", cluster.kubeconfig, "--setting", f"namespace={namespace}"),
    )
    found = outcomes(done)
    assert done.returncode == 0, json.dumps(found, indent=1) + done.stderr
    assert len(found) > 10 and all(outcome == "passed" for outcome in found.values()), found
    assert not names(cluster, namespace, "rayclusters")
