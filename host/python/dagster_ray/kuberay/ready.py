"""Waits until a Ray cluster is ready."""

from typing_extensions import Unpack

from dagster_ray.contract import ClusterClient, ClusterRef, EndpointSet, ListenerOptions
from dagster_ray.errors import BackendError, ClusterNotReadyError

# The component's reason for a wait that has ended (`components/kuberay/src/cluster/wait.rs`).
_NOT_READY_IN_TIME = "NotReadyInTime"
GRACE_SECONDS = 60.0
"""Added to a timeout that is passed to the component, for the call.

The component's own deadline expires first and gives a reason; this one stops a component that
ignores it.
"""


def wait_until_ready(
    clusters: ClusterClient,
    cluster: ClusterRef,
    seconds: float,
    **options: Unpack[ListenerOptions],
) -> EndpointSet:
    """Returns the endpoints of a cluster that is ready within `seconds`.

    Raises `ClusterNotReadyError` or `CallTimeoutError`, which are a `TimeoutError`, if the cluster
    is not ready in time, and `BackendError` if KubeRay has failed it.
    """
    try:
        options.setdefault("timeout", seconds + GRACE_SECONDS)
        return clusters.wait(cluster, int(seconds * 1000), **options)
    except BackendError as error:
        if error.reason != _NOT_READY_IN_TIME:
            raise
        details = {"status": error.status, "reason": error.reason, "details": error.details}
        raise ClusterNotReadyError(error.message, **details) from error


__all__ = ["GRACE_SECONDS", "wait_until_ready"]
