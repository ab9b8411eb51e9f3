"""Creates clusters and waits for them: `python measure.py KUBECONFIG NAMESPACE IMAGE SPEC TIMES`.

Prints JSON: the name of each cluster and the time (Unix, seconds) when `on_ready` was called. The
script runs in the environment of the measured package, so it imports no other module of this
project.
"""

import json
import sys
import time
from typing import Any

import dagster as dg
from dagster_ray import Lifecycle
from dagster_ray.kuberay import (
    KubeRayCluster,
    KubeRayClusterClientResource,
    RayClusterConfig,
    RayClusterSpec,
)

seen: list[dict[str, Any]] = []


class Noted(KubeRayCluster):
    def on_ready(self, context: Any) -> None:
        seen.append({"name": self.name, "notified": time.time()})


@dg.op(required_resource_keys={"ray_cluster"})
def uses() -> None:
    """Does nothing: the benchmark needs only the cluster."""


def main() -> None:
    kubeconfig, namespace, image, spec, times = sys.argv[1:6]
    parts = json.loads(spec)
    resource = Noted(
        image=image,
        lifecycle=Lifecycle(connect=False),
        client=KubeRayClusterClientResource(kube_config=kubeconfig),
        ray_cluster=RayClusterConfig(
            metadata={"namespace": namespace},
            spec=RayClusterSpec(
                ray_version=parts["rayVersion"],
                head_group_spec=parts["headGroupSpec"],
                worker_group_specs=[],
            ),
        ),
    )

    @dg.job(resource_defs={"ray_cluster": resource})
    def job() -> None:
        uses()

    for _ in range(int(times)):
        job.execute_in_process()
    sys.stdout.write(json.dumps(seen) + "\n")


main()
