"""A client for RayClusters."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict, cast

from typing_extensions import NotRequired

from dagster_ray.address import CLIENT_PORT, DASHBOARD_PORT
from dagster_ray.errors import UnsupportedError
from dagster_ray.kuberay.backend import head_service
from dagster_ray.kuberay.client.base import RAY_CLUSTER, BaseKubeRayClient, document_of
from dagster_ray.kuberay.service_names import k8s_service_fqdn

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

GROUP = "ray.io"
VERSION = "v1"
PLURAL = "rayclusters"
KIND = RAY_CLUSTER


class RayClusterEndpoints(TypedDict):
    """The ports of a cluster's head service, as texts (KubeRay, `RayClusterStatus.endpoints`)."""

    client: str
    dashboard: str
    metrics: str
    redis: str
    serve: str


class RayClusterHead(TypedDict):
    """The head of a cluster (KubeRay, `RayClusterStatus.head`)."""

    podIP: NotRequired[str]
    podName: NotRequired[str]
    serviceIP: NotRequired[str]
    serviceName: NotRequired[str]


class RayClusterStatus(TypedDict):
    """The status of a RayCluster (KubeRay, `RayClusterStatus`)."""

    desiredCPU: str
    desiredGPU: str
    desiredMemory: str
    desiredTPU: str
    lastUpdateTime: str
    maxWorkerReplicas: int
    observedGeneration: int
    head: NotRequired[RayClusterHead]
    endpoints: NotRequired[RayClusterEndpoints]
    state: NotRequired[str]
    conditions: NotRequired[list[dict[str, Any]]]


class RayClusterClient(BaseKubeRayClient[RayClusterStatus]):
    """A client for RayClusters."""

    kind: ClassVar[str] = KIND
    plural: ClassVar[str] = PLURAL
    _option = "ray_cluster"

    def wait_until_ready(
        self,
        name: str,
        namespace: str,
        timeout: float = 600.0,
        failure_tolerance_timeout: float = 0.0,
        poll_interval: float = 5.0,
        log_cluster_conditions: bool = False,
    ) -> tuple[str, RayClusterEndpoints]:
        """Waits until a cluster is ready. Returns its head service's name and its ports.

        `failure_tolerance_timeout` is the time in seconds for which KubeRay may report the cluster
        as failed. With `log_cluster_conditions`, its conditions are log lines of the level INFO.
        """
        self._wait_until_ready(
            name, namespace, timeout, failure_tolerance_timeout, log_cluster_conditions
        )
        return self.head_endpoints(name, namespace)

    def head_endpoints(self, name: str, namespace: str) -> tuple[str, RayClusterEndpoints]:
        """Returns the name of a ready cluster's head service, and its ports."""
        ref = self._ref(name, namespace)
        service = head_service(self._clusters.endpoints(ref), namespace)
        ports: object = document_of(self._clusters.get(ref))["status"].get("endpoints")
        return service, cast(RayClusterEndpoints, ports or {})

    @contextmanager
    def port_forward(
        self,
        name: str,
        namespace: str,
        local_dashboard_port: int = DASHBOARD_PORT,
        local_gcs_port: int = CLIENT_PORT,
    ) -> Generator[tuple[int, int], None, None]:
        """Forwards local ports to the head's dashboard and Ray Client server, and yields them.

        The ports are free ones. Raises `UnsupportedError` for a number other than 0 or the default.
        """
        if {local_dashboard_port, local_gcs_port} - {0, DASHBOARD_PORT, CLIENT_PORT}:
            raise UnsupportedError(
                f"local_dashboard_port, local_gcs_port: {local_dashboard_port}, {local_gcs_port} "
                "cannot be chosen, because the host binds free ports; write 0, and use the ports "
                "that port_forward yields"
            )
        service, _ = self.head_endpoints(name, namespace)
        backend = self.backend_for()
        dashboard = backend.forward(namespace, service, DASHBOARD_PORT)
        try:
            ray_client = backend.forward(namespace, service, CLIENT_PORT)
            try:
                yield dashboard.port, ray_client.port
            finally:
                ray_client.close()
        finally:
            dashboard.close()

    @contextmanager
    def job_submission_client(
        self,
        name: str,
        namespace: str,
        port_forward: bool = False,
        timeout: float = 60.0,
        address: str | None = None,
        headers: Mapping[str, Any] | None = None,
        verify: str | bool = True,
        cookies: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Generator["JobSubmissionClient", None, None]:
        """Yields Ray's `JobSubmissionClient` for a cluster, which may take `timeout` s to be ready.

        It connects to `address`, or to the head's service: in a pod by the service's name, unless
        `port_forward` is set, and otherwise through a forwarded port.
        """
        from ray.job_submission import JobSubmissionClient

        def connect(url: str, token: str | None = None) -> JobSubmissionClient:
            of_token = {} if token is None else {"Authorization": f"Bearer {token}"}
            return JobSubmissionClient(
                url,
                headers={**of_token, **(headers or {})} or None,
                verify=verify,
                cookies=None if cookies is None else dict(cookies),
                metadata=None if metadata is None else dict(metadata),
            )

        if address is not None:
            yield connect(address)
            return
        service, ports = self.wait_until_ready(name, namespace, timeout)
        token = self.backend_for().ray_token(namespace, service, DASHBOARD_PORT)
        if port_forward or self.backend_for().service_route() == "port-forward":
            with self.port_forward(name, namespace, 0, 0) as (port, _):
                yield connect(f"http://127.0.0.1:{port}", token)
        else:
            port = ports.get("dashboard", DASHBOARD_PORT)
            yield connect(f"http://{k8s_service_fqdn(service, namespace)}:{port}", token)


__all__ = [
    "GROUP",
    "KIND",
    "PLURAL",
    "VERSION",
    "RayClusterClient",
    "RayClusterEndpoints",
    "RayClusterHead",
    "RayClusterStatus",
]
