"""Compares waiting for a RayCluster with PyPI's `dagster-ray`, in one run on one control plane.

`python run.py OWN PYPI`: the interpreters of the two environments, with tests/cluster on the path.
A separate observer watches the clusters and records when KubeRay reports each as ready.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import manifests
from cluster import RUNNING, Cluster, RunningCluster, from_facts
from kubernetes import client, watch
from measured_build import announce
from report import report
from urllib3.exceptions import ProtocolError

MEASURE = Path(__file__).with_name("measure.py")
TIMES = 5
# Requests that create or delete a cluster are not part of the wait for it.
OTHER_VERBS = ("create", "delete")


class Observer(threading.Thread):
    """Records when each cluster of a namespace was first reported as ready (Unix, seconds)."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        super().__init__(daemon=True)
        self.ready: dict[str, float] = {}
        api = cluster.api()
        api.user_agent = "observer"
        self._list = client.CustomObjectsApi(api).list_namespaced_custom_object
        self._namespace = namespace

    def run(self) -> None:
        # The control plane may stop before this thread.
        with suppress(ProtocolError):
            self._record()

    def _record(self) -> None:
        resource = ("ray.io", "v1", self._namespace, "rayclusters")
        for event in watch.Watch().stream(self._list, *resource):
            status = event["object"].get("status") or {}
            if status.get("state") == "ready" and (status.get("head") or {}).get("serviceIP"):
                self.ready.setdefault(event["object"]["metadata"]["name"], time.time())


def measured(cluster: Cluster, interpreter: str, name: str, agent: str) -> dict[str, list[float]]:
    print(f"measuring {name} …", file=sys.stderr, flush=True)
    namespace = f"bench-{name}-{os.getpid()}"
    cluster.core.create_namespace({"metadata": {"name": namespace}})
    observer = Observer(cluster, namespace)
    observer.start()
    spec = json.dumps(manifests.ray_cluster_spec(cluster.image))
    arguments = (str(cluster.kubeconfig), namespace, cluster.image, spec, str(TIMES))
    done = subprocess.run(
        [interpreter, str(MEASURE), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
        # The measured packages must not import this script's modules.
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )
    clusters = json.loads(done.stdout.splitlines()[-1])
    cluster.core.delete_namespace(namespace)
    requests = [
        event
        for event in cluster.requests(agent)
        if (event.get("objectRef") or {}).get("namespace") == namespace
        and event["verb"] not in OTHER_VERBS
    ]
    return {
        "delays": [one["notified"] - observer.ready[one["name"]] for one in clusters],
        "requests": [len(requests) / len(clusters)],
    }


def compare(cluster: Cluster, own_python: str, pypi_python: str) -> None:
    own = measured(cluster, own_python, "own", "dagster-ray-wasm")
    pypi = measured(cluster, pypi_python, "pypi", "OpenAPI-Generator")
    fast, slow = (statistics.median(results["delays"]) for results in (own, pypi))
    few, many = (results["requests"][0] for results in (own, pypi))
    rows = [
        ("", "wasm", "PyPI", "PyPI / wasm"),
        ("API requests to wait for one cluster", f"{few:.1f}", f"{many:.1f}", f"{many / few:.1f}"),
        (
            "delay from ready to on_ready, median",
            *(f"{1000 * delay:.0f} ms" for delay in (fast, slow)),
            f"{slow / max(fast, 0.001):.0f}",
        ),
        (
            f"delay from ready to on_ready, range of {TIMES}",
            *(
                f"{1000 * min(results['delays']):.0f} to {1000 * max(results['delays']):.0f} ms"
                for results in (own, pypi)
            ),
            "",
        ),
    ]
    report("kuberay", rows)


def main() -> None:
    own_python, pypi_python = sys.argv[1:3]
    announce(own_python)
    if running := os.environ.get(RUNNING):
        compare(from_facts(json.loads(Path(running).read_text())), own_python, pypi_python)
        return
    with tempfile.TemporaryDirectory() as folder:
        started = RunningCluster(Path(folder) / "cluster.log")
        try:
            compare(started.cluster(), own_python, pypi_python)
        finally:
            started.stop()


if __name__ == "__main__":
    main()
