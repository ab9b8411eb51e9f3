"""What KubeRay's component promises of clusters, rule by rule on a real control plane."""

import json
from pathlib import Path

from cluster import Cluster
from kube_objects import cluster_spec, names
from test_conformance import outcomes, run


def test_clusters_keep_the_contracts_promises(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    spec = cluster_spec(cluster)
    spec["headGroupSpec"]["template"]["spec"]["containers"][0]["image"] = cluster.image
    ray_cluster = {"metadata": {"namespace": namespace}, "spec": spec}
    options = tmp_path / "options.json"
    options.write_text(json.dumps({"cluster": {"ray_cluster": ray_cluster}}))
    kubeconfig = ("--kubeconfig", str(cluster.kubeconfig))
    done = run("--json", "check", "kuberay", "--only", "cluster", "--options", options, *kubeconfig)
    found = outcomes(done)
    assert done.returncode == 0, json.dumps(found, indent=1) + done.stderr
    assert len(found) > 10 and all(outcome == "passed" for outcome in found.values()), found
    assert not names(cluster, namespace, "rayclusters")
