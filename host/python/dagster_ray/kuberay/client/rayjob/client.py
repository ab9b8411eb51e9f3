"""A client for RayJobs."""

import logging
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict

from typing_extensions import NotRequired

from dagster_ray.errors import BackendError, CallTimeoutError
from dagster_ray.kuberay.client.base import BaseKubeRayClient
from dagster_ray.kuberay.client.raycluster.client import (
    RayClusterClient,
    RayClusterEndpoints,
    RayClusterStatus,
)
from dagster_ray.pipes.job_submission import tail_logs

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

GROUP = "ray.io"
VERSION = "v1"
PLURAL = "rayjobs"
KIND = "RayJob"
_HOUR = 3600.0

logger = logging.getLogger("dagster_ray")


class RayJobStatus(TypedDict):
    """The status of a RayJob (KubeRay, `RayJobStatus`)."""

    jobId: NotRequired[str]
    rayJobInfo: NotRequired[dict[str, Any]]
    jobDeploymentStatus: str
    rayClusterName: NotRequired[str]
    rayClusterStatus: NotRequired[RayClusterStatus]
    startTime: NotRequired[str]
    dashboardURL: NotRequired[str]
    endTime: NotRequired[str]
    jobStatus: NotRequired[Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "STOPPED"]]
    message: NotRequired[str]
    reason: NotRequired[str]
    failed: NotRequired[int]
    succeeded: NotRequired[int]


class RayJobClient(BaseKubeRayClient[RayJobStatus]):
    """A client for RayJobs."""

    kind: ClassVar[str] = KIND
    plural: ClassVar[str] = PLURAL
    _option = "ray_job"

    @property
    def ray_cluster_client(self) -> RayClusterClient:
        """A client for the jobs' RayClusters."""
        access = self._access
        client = RayClusterClient(
            access.get("kube_config"),
            access.get("kube_context"),
            backend_grants=access.get("backend_grants"),
            backend_sha256=access.get("backend_sha256"),
        )
        client.is_checked = self.is_checked
        return client

    def get_ray_cluster_name(
        self, name: str, namespace: str, timeout: float = 60.0, poll_interval: float = 1.0
    ) -> str:
        """Waits until KubeRay has named the job's RayCluster, and returns the name."""
        what = f"the RayCluster of the RayJob {namespace}/{name}"
        info = self._await(name, namespace, "cluster-named", timeout, what)
        return self._status_of(info).get("rayClusterName", "")

    def get_job_submission_id(
        self, name: str, namespace: str, timeout: float = 60.0, poll_interval: float = 1.0
    ) -> str | None:
        """Returns Ray's submission id of the job, or `None` before KubeRay has set it."""
        return self.get_status(name, namespace, timeout).get("jobId") or None

    def raise_if_deployment_failed(
        self, name: str, namespace: str, status: RayJobStatus | None = None
    ) -> RayJobStatus:
        """Raises `BackendError` if KubeRay has failed the job. Returns its status otherwise.

        The component reads the current status, which is at least as new as the given one.
        """
        return self._status_of(self._find(name, namespace, "not-failed"))

    def wait_until_deployment_ready(
        self, name: str, namespace: str, timeout: float = 600.0, poll_interval: float = 1.0
    ) -> RayJobStatus:
        """Waits until the job's cluster is ready, and returns the job's status."""
        what = f"the cluster of the RayJob {namespace}/{name}"
        return self._status_of(self._await(name, namespace, "cluster-ready", timeout, what))

    def wait_until_ready(
        self,
        name: str,
        namespace: str,
        timeout: float = 600.0,
        failure_tolerance_timeout: float = 0.0,
        poll_interval: float = 1.0,
        log_cluster_conditions: bool = False,
    ) -> tuple[str, RayClusterEndpoints]:
        """Waits until the job's cluster is ready. Returns its head service's name and its ports.

        See `RayClusterClient.wait_until_ready`.
        """
        self._wait_until_ready(
            name, namespace, timeout, failure_tolerance_timeout, log_cluster_conditions
        )
        cluster = self.get_ray_cluster_name(name, namespace)
        return self.ray_cluster_client.head_endpoints(cluster, namespace)

    def wait_until_running(
        self,
        name: str,
        namespace: str,
        timeout: float = 600.0,
        poll_interval: float = 1.0,
        terminate_on_timeout: bool = True,
        port_forward: bool = False,
        log_cluster_conditions: bool = False,
    ) -> bool:
        """Waits until Ray has started the job, and returns `True`.

        After `timeout`, the job is stopped if `terminate_on_timeout` is set, or deleted if Ray has
        no such job. `port_forward` is how a job is stopped, as in `terminate`.
        """
        try:
            self._await(name, namespace, "started", timeout)
        except CallTimeoutError:
            if terminate_on_timeout:
                logger.warning(f"Stopping the RayJob {namespace}/{name} after {timeout:g} s.")
                if not self.terminate(name, namespace, port_forward=port_forward):
                    self.delete(name, namespace)
            raise
        return True

    def get_job_logs(
        self,
        name: str,
        namespace: str,
        timeout: float = _HOUR,
        poll_interval: float = 1.0,
        port_forward: bool = False,
        address: str | None = None,
        headers: Mapping[str, Any] | None = None,
        verify: str | bool = True,
        cookies: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Waits until Ray has started the job, and returns its output so far.

        The last six arguments are those of `RayClusterClient.job_submission_client`.
        """
        connection = {
            "port_forward": port_forward,
            "address": address,
            "headers": headers,
            "verify": verify,
            "cookies": cookies,
            "metadata": metadata,
        }
        with self._started_job(name, namespace, timeout, connection) as (jobs, submission_id):
            return jobs.get_job_logs(submission_id)

    def tail_job_logs(
        self,
        name: str,
        namespace: str,
        timeout: float = _HOUR,
        poll_interval: float = 1.0,
        port_forward: bool = False,
        address: str | None = None,
        headers: Mapping[str, Any] | None = None,
        verify: str | bool = True,
        cookies: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Iterator[str]:
        """Waits until Ray has started the job, and yields its output until it ends.

        The last six arguments are those of `RayClusterClient.job_submission_client`.
        """
        connection = {
            "port_forward": port_forward,
            "address": address,
            "headers": headers,
            "verify": verify,
            "cookies": cookies,
            "metadata": metadata,
        }
        with self._started_job(name, namespace, timeout, connection) as (jobs, submission_id):
            yield from tail_logs(jobs.tail_job_logs(submission_id))

    def terminate(
        self,
        name: str,
        namespace: str,
        timeout: float = 10.0,
        poll_interval: float = 1.0,
        port_forward: bool = False,
        address: str | None = None,
        headers: Mapping[str, Any] | None = None,
        verify: str | bool = True,
        cookies: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Stops the Ray job, and keeps the RayJob. Returns `False` if Ray has no such job.

        The last six arguments are those of `RayClusterClient.job_submission_client`, to which
        `timeout` is passed.
        """
        info = self._find(name, namespace)
        job = info["job"] if info else None
        cluster = self._status_of(info).get("rayClusterName") if info else None
        if not cluster or not job or not job["submission_id"]:
            return False
        with self.ray_cluster_client.job_submission_client(
            cluster,
            namespace,
            port_forward=port_forward,
            timeout=timeout,
            address=address,
            headers=headers,
            verify=verify,
            cookies=cookies,
            metadata=metadata,
        ) as jobs:
            return jobs.stop_job(job["submission_id"])

    @contextmanager
    def _started_job(
        self, name: str, namespace: str, timeout: float, connection: Mapping[str, Any]
    ) -> Generator[tuple["JobSubmissionClient", str], None, None]:
        """Yields a client for the job's cluster, and the job's id, once Ray has started the job."""
        info = self._await(name, namespace, "started", timeout)
        cluster = self._status_of(info).get("rayClusterName", "")
        job = info["job"]
        if not cluster or job is None:
            raise BackendError(f"the RayJob {namespace}/{name} has no Ray job whose output exists")
        clusters = self.ray_cluster_client
        with clusters.job_submission_client(cluster, namespace, **connection) as jobs:
            yield jobs, job["submission_id"]


__all__ = ["GROUP", "KIND", "PLURAL", "VERSION", "RayJobClient", "RayJobStatus"]
