"""Clients for KubeRay's custom resources, and the Dagster resources that provide them."""

import json
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import dagster as dg
from pydantic import Field

from dagster_ray.contract import (
    Attributes,
    ClusterClient,
    ClusterInfo,
    ClusterRef,
    ClusterSpec,
    EndpointSet,
    Owner,
    Query,
)
from dagster_ray.dagster_typing import Resource
from dagster_ray.errors import BackendError, CallTimeoutError, InvalidConfigError, NotFoundError
from dagster_ray.kuberay.backend import KubeRay

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient
    from typing_extensions import Self

T = TypeVar("T")

_DASHBOARD_PORT = 8265
_CLIENT_PORT = 10001
# Values of `jobDeploymentStatus`, which KubeRay sets, and of `jobStatus`, which Ray sets.
_FAILED = {"Failed", "ValidationFailed"}
_READY = {"Waiting", "Running", "Complete"}
_STARTED = {"RUNNING", "SUCCEEDED", "STOPPED", "FAILED"}


class _Client:
    """Operations on one kind of object."""

    _kind: ClassVar[str]
    _option: ClassVar[str]

    def __init__(
        self,
        kube_config: str | None = None,
        kube_context: str | None = None,
        *,
        config_file: str | None = None,
        context: str | None = None,
        backend_grants: Mapping[str, Any] | None = None,
        backend_sha256: str | None = None,
    ) -> None:
        self._access: dict[str, Any] = {
            "kube_config": kube_config or config_file,
            "kube_context": kube_context or context,
            "backend_grants": backend_grants,
            "backend_sha256": backend_sha256,
        }
        self._backends: dict[str, KubeRay] = {}

    @property
    def client(self) -> "Self":
        """The client itself, for code of earlier releases that reads `resource.client`."""
        return self

    def backend_for(self, name: str = "kuberay") -> KubeRay:
        """Returns a backend with this client's access to Kubernetes."""
        if name not in self._backends:
            self._backends[name] = KubeRay(**self._access, backend=name)
        return self._backends[name]

    def get(self, name: str, namespace: str) -> dict[str, Any]:
        """Returns the object, or `{}` if it does not exist."""
        try:
            return _document(self._clusters.get(self._ref(name, namespace)))
        except NotFoundError:
            return {}

    def list(self, namespace: str, label_selector: str = "") -> dict[str, Any]:
        """Returns a namespace's objects with these labels (`a=b,c=d`), as `{"items": […]}`."""
        labels = labels_of(label_selector)
        query: Query = {"namespace": namespace, "labels": labels, "kind": self._kind}
        return {"items": [_document(info) for info in self._clusters.list_(query)]}

    def create(self, body: Mapping[str, Any], namespace: str) -> dict[str, Any]:
        """Creates an object from its manifest, and returns it."""
        manifest = {key: body[key] for key in ("metadata", "spec") if key in body}
        owner: Owner = {
            "deployment": "",
            "run_id": "",
            "step_key": None,
            "resource_key": None,
            "holder": uuid.uuid4().hex,
        }
        spec: ClusterSpec = {
            "name": None,
            "owner": owner,
            "image": None,
            "labels": [],
            "env": [],
            "options": json.dumps({"namespace": namespace, self._option: manifest}),
        }
        creation = self._clusters.create(spec)
        ref = creation["joined"] if "joined" in creation else creation["created"]
        return self.get(ref["name"], ref["namespace"] or namespace)

    def delete(self, name: str, namespace: str) -> None:
        """Deletes the object. It is not an error if the object does not exist."""
        self._clusters.delete(self._ref(name, namespace))

    def update(self, name: str, namespace: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Applies a merge patch (RFC 7386) to the object, and returns it."""
        return _document(self._clusters.update(self._ref(name, namespace), json.dumps(body)))

    def update_json_patch(
        self, name: str, namespace: str, body: Iterable[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Applies a JSON patch (RFC 6902) to the object, and returns it."""
        patch = json.dumps([dict(step) for step in body])
        return _document(self._clusters.update(self._ref(name, namespace), patch))

    def get_status(self, name: str, namespace: str) -> dict[str, Any]:
        """Returns the object's current `status`, or `{}` if KubeRay has not set it yet."""
        return self.get(name, namespace).get("status") or {}

    def wait_until_ready(
        self, name: str, namespace: str, timeout: float = 600.0
    ) -> tuple[str, EndpointSet]:
        """Waits until the cluster is ready. Returns its head service's name and its endpoints."""
        endpoints = self._clusters.wait(self._ref(name, namespace), int(timeout * 1000))
        return endpoints["host"].split(".")[0], endpoints

    def wait_until_exists(
        self, name: str, namespace: str, timeout: float = 60.0, poll_interval: float = 1.0
    ) -> dict[str, Any]:
        """Waits until the object exists, and returns it."""
        what = f"the {self._kind} {namespace}/{name}"
        return _awaited(what, lambda: self.get(name, namespace), timeout, poll_interval)

    def wait_for_service_endpoints(
        self,
        service_name: str,
        namespace: str,
        poll_interval: float = 1.0,
        timeout: float = 600.0,
    ) -> None:
        """Waits until the cluster with this head service is ready."""
        deadline = time.monotonic() + timeout
        clusters = RayClusterClient(**self._access)

        def made() -> str | None:
            for cluster in clusters.list(namespace)["items"]:
                head = cluster.get("status", {}).get("head", {})
                if head.get("serviceName") == service_name:
                    return cluster["metadata"]["name"]
            return None

        name = _awaited(f"the service {namespace}/{service_name}", made, timeout, poll_interval)
        clusters.wait_until_ready(name, namespace, max(deadline - time.monotonic(), 0.0))

    @property
    def _clusters(self) -> ClusterClient:
        return ClusterClient(self.backend_for())

    def _ref(self, name: str, namespace: str) -> ClusterRef:
        details = json.dumps({"kind": self._kind})
        return {"name": name, "namespace": namespace, "uid": None, "details": details}


class RayClusterClient(_Client):
    """A client for RayClusters."""

    _kind = "RayCluster"
    _option = "ray_cluster"

    @contextmanager
    def port_forward(self, name: str, namespace: str) -> Generator[tuple[int, int], None, None]:
        """Forwards local ports to the head's dashboard and Ray Client server, and yields them."""
        endpoints = self._clusters.endpoints(self._ref(name, namespace))
        service, where, *_ = endpoints["host"].split(".")
        dashboard = self.backend_for().forward(where, service, _DASHBOARD_PORT)
        try:
            ray_client = self.backend_for().forward(where, service, _CLIENT_PORT)
            try:
                yield dashboard.port, ray_client.port
            finally:
                ray_client.close()
        finally:
            dashboard.close()

    @contextmanager
    def job_submission_client(
        self, name: str, namespace: str
    ) -> Generator["JobSubmissionClient", None, None]:
        """Yields Ray's `JobSubmissionClient` for a cluster."""
        from ray.job_submission import JobSubmissionClient

        with self.port_forward(name, namespace) as (port, _):
            yield JobSubmissionClient(f"http://127.0.0.1:{port}")


class RayJobClient(_Client):
    """A client for RayJobs."""

    _kind = "RayJob"
    _option = "ray_job"

    def get_ray_cluster_name(self, name: str, namespace: str) -> str | None:
        """Returns the name of the job's RayCluster, or `None` before it exists."""
        return self.get_status(name, namespace).get("rayClusterName") or None

    def get_job_submission_id(self, name: str, namespace: str) -> str | None:
        """Returns Ray's submission id of the job, or `None` before KubeRay has set it."""
        return self.get_status(name, namespace).get("jobId") or None

    @property
    def ray_cluster_client(self) -> RayClusterClient:
        """A client for the jobs' RayClusters."""
        return RayClusterClient(**self._access)

    def raise_if_deployment_failed(self, name: str, namespace: str) -> dict[str, Any]:
        """Raises `BackendError` if KubeRay has failed the job. Returns its status otherwise."""
        status = self.get_status(name, namespace)
        state = status.get("jobDeploymentStatus")
        if state in _FAILED:
            cause = ": ".join(filter(None, (status.get("reason"), status.get("message"))))
            raise BackendError(
                f"the RayJob {namespace}/{name} is {state}" + (f": {cause}" if cause else ""),
                reason=status.get("reason") or state,
            )
        return status

    def wait_until_deployment_ready(
        self, name: str, namespace: str, timeout: float = 600.0, poll_interval: float = 1.0
    ) -> dict[str, Any]:
        """Waits until the job's cluster is ready, and returns the job's status."""

        def ready() -> dict[str, Any] | None:
            status = self.raise_if_deployment_failed(name, namespace)
            return status if status.get("jobDeploymentStatus") in _READY else None

        what = f"the cluster of the RayJob {namespace}/{name}"
        return _awaited(what, ready, timeout, poll_interval)

    def wait_until_running(
        self,
        name: str,
        namespace: str,
        timeout: float = 600.0,
        poll_interval: float = 1.0,
        terminate_on_timeout: bool = True,
    ) -> dict[str, Any]:
        """Waits until Ray has started the job, and returns the job's status."""

        def running() -> dict[str, Any] | None:
            status = self.raise_if_deployment_failed(name, namespace)
            return status if status.get("jobStatus") in _STARTED else None

        try:
            return _awaited(f"the RayJob {namespace}/{name}", running, timeout, poll_interval)
        except CallTimeoutError:
            if terminate_on_timeout and not self.terminate(name, namespace):
                self.delete(name, namespace)
            raise

    def terminate(self, name: str, namespace: str) -> bool:
        """Stops the Ray job, and keeps the RayJob. Returns `False` if Ray has no such job."""
        status = self.get_status(name, namespace)
        cluster, job = status.get("rayClusterName"), status.get("jobId")
        if not cluster or not job or not status.get("jobStatus"):
            return False
        with self.ray_cluster_client.job_submission_client(cluster, namespace) as jobs:
            return jobs.stop_job(job)


class _ClientResource(Resource):
    """A Dagster resource with the access to Kubernetes."""

    kube_context: str | None = Field(
        default=None, description="The context of the kubeconfig. Default: the current context."
    )
    kube_config: str | None = Field(
        default=None,
        description="The kubeconfig. Default: KUBECONFIG, ~/.kube/config, or the service account "
        "of this pod.",
    )
    backend_grants: dict[str, Any] | None = Field(
        default=None,
        description="Restricts the component's grants and limits, in the form of its manifest: "
        "`{grants: {…}, limits: {…}}`. It cannot add a grant.",
    )
    backend_sha256: str | None = Field(
        default=None, description="The sha256 of the component's file."
    )

    def __init__(self, **data: Any) -> None:
        if "kubeconfig_file" in data:
            data["kube_config"] = data.pop("kubeconfig_file")
        super().__init__(**data)

    @property
    def _allowed(self) -> dict[str, Any]:
        return {"backend_grants": self.backend_grants, "backend_sha256": self.backend_sha256}


class KubeRayClusterClientResource(_ClientResource):
    """Provides steps with a :class:`RayClusterClient`."""

    @property
    def client(self) -> RayClusterClient:
        """The client, for code that reads `resource.client`."""
        return RayClusterClient(self.kube_config, self.kube_context, **self._allowed)

    def create_resource(self, context: dg.InitResourceContext) -> Any:
        return self.client


class KubeRayJobClientResource(_ClientResource):
    """Provides steps with a :class:`RayJobClient`."""

    @property
    def client(self) -> RayJobClient:
        """The client, for code that reads `resource.client`."""
        return RayJobClient(self.kube_config, self.kube_context, **self._allowed)

    def create_resource(self, context: dg.InitResourceContext) -> Any:
        return self.client


# The names in earlier releases.
KubeRayClient = KubeRayClusterClientResource
RayClusterClientResource = KubeRayClusterClientResource


def labels_of(selector: str) -> Attributes:
    """Parses a selector such as `a=b,c=d` into pairs of key and value."""
    labels: Attributes = []
    for part in filter(None, (part.strip() for part in selector.split(","))):
        key, equals, value = part.replace("==", "=").partition("=")
        if not equals or key.endswith("!") or not key:
            raise InvalidConfigError(
                f"label_selector: {part!r} does not have the form key=value; write `a=b,c=d`",
                fields=[{"path": "label_selector", "problem": f"{part!r}", "hint": "key=value"}],
            )
        labels.append([key.strip(), value.strip()])
    return labels


def _awaited(what: str, look: Callable[[], T | None], timeout: float, poll_interval: float) -> T:
    """Calls `look` until it returns a truthy value, and returns that value."""
    deadline = time.monotonic() + timeout
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise CallTimeoutError(f"{what}: not available after {timeout:g} s", seconds=timeout)
        time.sleep(poll_interval)


def _document(info: ClusterInfo) -> dict[str, Any]:
    return json.loads(info["document"])


__all__ = [
    "KubeRayClient",
    "KubeRayClusterClientResource",
    "KubeRayJobClientResource",
    "RayClusterClient",
    "RayClusterClientResource",
    "RayJobClient",
]
