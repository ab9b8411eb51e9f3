"""Clients for KubeRay's custom resources, and the Dagster resources that provide them."""

import json
import time
import uuid
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import dagster as dg
from pydantic import Field, PrivateAttr

from dagster_ray.address import CLIENT_PORT, DASHBOARD_PORT
from dagster_ray.configs import BackendKeywords, described
from dagster_ray.contract import (
    ClusterClient,
    ClusterInfo,
    ClusterRef,
    ClusterSpec,
    EndpointSet,
    Owner,
    Query,
)
from dagster_ray.dagster_typing import Resource
from dagster_ray.errors import CallTimeoutError, NotFoundError
from dagster_ray.instance_policy import check_code, check_resource
from dagster_ray.kuberay.backend import (
    DEFAULT_BACKEND,
    DashboardAccess,
    KubeRay,
    head_service,
)
from dagster_ray.kuberay.configs import Document

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient
    from typing_extensions import Self

# The states that the component can wait for.
Milestone = Literal["exists", "not-failed", "cluster-ready", "started"]


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
        backend_grants: Mapping[str, object] | None = None,
        backend_sha256: str | None = None,
        unreachable_timeout: float | None = None,
        backend_config: Mapping[str, object] | None = None,
    ) -> None:
        self._access: BackendKeywords = {
            "kube_config": kube_config or config_file,
            "kube_context": kube_context or context,
            "backend_grants": backend_grants,
            "backend_sha256": backend_sha256,
            "unreachable_timeout": unreachable_timeout,
            "backend_config": backend_config,
        }
        self._backends: dict[str, KubeRay] = {}
        # Whether the resource that provides the client has checked who chose its fields.
        self.is_checked = False

    @property
    def client(self) -> "Self":
        """The client itself, for code of earlier releases that reads `resource.client`."""
        return self

    def backend_for(self, name: str = DEFAULT_BACKEND, *, is_checked: bool = False) -> KubeRay:
        """Returns a backend with this client's access to Kubernetes.

        `is_checked` tells that the policy allows the name of the backend to who chose it.
        """
        if name not in self._backends:
            self._backends[name] = self.new_backend(name, is_checked=is_checked)
        return self._backends[name]

    def new_backend(
        self,
        name: str = DEFAULT_BACKEND,
        *,
        is_checked: bool = False,
        start_timeout: float | None = None,
        access: DashboardAccess | None = None,
    ) -> KubeRay:
        """Returns a further backend, whose scripts may be pending for `start_timeout` seconds."""
        if not self.is_checked:
            check_code(None, self._access)
        if access is not None:
            # The resource that provides the client does not have these fields.
            check_code(None, vars(access))
        return KubeRay(
            is_checked=self.is_checked or is_checked,
            start_timeout=start_timeout,
            access=access,
            **{**self._access, "backend": name},
        )

    def get(self, name: str, namespace: str) -> Document:
        """Returns the object, or `{}` if it does not exist."""
        info = self._find(name, namespace)
        return {} if info is None else _document(info)

    def list(self, namespace: str, label_selector: str = "") -> Document:
        """Returns a namespace's objects that match a label selector, as `{"items": […]}`."""
        check_code(None, {"namespace": namespace})
        query: Query = {
            "namespace": namespace,
            "labels": [],
            "selector": label_selector or None,
            "kind": self._kind,
        }
        return {"items": [_document(info) for info in self._clusters.list_(query)]}

    def create(self, body: Mapping[str, object], namespace: str) -> Document:
        """Creates an object from its manifest, and returns it."""
        check_code(None, {"namespace": namespace, self._option: dict(body)})
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

    def update(self, name: str, namespace: str, body: Mapping[str, object]) -> Document:
        """Applies a merge patch (RFC 7386) to the object, and returns it."""
        return _document(self._clusters.update(self._ref(name, namespace), json.dumps(body)))

    def update_json_patch(
        self, name: str, namespace: str, body: Iterable[Mapping[str, object]]
    ) -> Document:
        """Applies a JSON patch (RFC 6902) to the object, and returns it."""
        patch = json.dumps([dict(step) for step in body])
        return _document(self._clusters.update(self._ref(name, namespace), patch))

    def get_status(self, name: str, namespace: str) -> Document:
        """Returns the object's current `status`, or `{}` if KubeRay has not set it yet."""
        return _status(self._find(name, namespace))

    def wait_until_ready(
        self, name: str, namespace: str, timeout: float = 600.0
    ) -> tuple[str, EndpointSet]:
        """Waits until the cluster is ready. Returns its head service's name and its endpoints."""
        endpoints = self._clusters.wait(self._ref(name, namespace), int(timeout * 1000))
        return head_service(endpoints, namespace), endpoints

    def wait_until_exists(
        self, name: str, namespace: str, timeout: float = 60.0, poll_interval: float = 1.0
    ) -> Document:
        """Waits until the object exists, and returns it. `poll_interval` is ignored."""
        return _document(self._await(name, namespace, "exists", timeout))

    def wait_for_service_endpoints(
        self,
        service_name: str,
        namespace: str,
        poll_interval: float = 1.0,
        timeout: float = 600.0,
    ) -> None:
        """Waits until the cluster with this head service is ready. `poll_interval` is ignored."""
        deadline = time.monotonic() + timeout
        clusters = self._cluster_client()
        what = f"the service {namespace}/{service_name}"
        found = clusters._await("", namespace, "exists", timeout, what, head_service=service_name)
        left = max(deadline - time.monotonic(), 0.0)
        clusters.wait_until_ready(found["cluster"]["name"], namespace, left)

    @property
    def _clusters(self) -> ClusterClient:
        return ClusterClient(self.backend_for())

    def _cluster_client(self) -> "RayClusterClient":
        """Returns a client for RayClusters with the same access to Kubernetes."""
        access = self._access
        client = RayClusterClient(
            access.get("kube_config"),
            access.get("kube_context"),
            backend_grants=access.get("backend_grants"),
            backend_sha256=access.get("backend_sha256"),
        )
        client.is_checked = self.is_checked
        return client

    def _find(
        self, name: str, namespace: str, until: Milestone | None = None
    ) -> ClusterInfo | None:
        """Returns the object, or `None` if it does not exist.

        Raises `CallTimeoutError` or `BackendError` if it is not in the state `until`.
        """
        try:
            return self._clusters.get(self._ref(name, namespace, until=until))
        except NotFoundError:
            return None

    def _await(
        self,
        name: str,
        namespace: str,
        until: Milestone,
        timeout: float,
        what: str | None = None,
        **details: object,
    ) -> ClusterInfo:
        """Returns the object once it is in the state `until`."""
        within_ms = int(timeout * 1000)
        ref = self._ref(name, namespace, until=until, within_ms=within_ms, **details)
        try:
            return self._clusters.get(ref)
        except CallTimeoutError as error:
            what = what or f"the {self._kind} {namespace}/{name}"
            problem = f"{what}: not available after {timeout:g} s"
            raise CallTimeoutError(problem, seconds=timeout) from error

    def _ref(self, name: str, namespace: str, **details: object) -> ClusterRef:
        """Returns a reference. The component finds the object by its details, too."""
        check_code(None, {"namespace": namespace})
        text = json.dumps({"kind": self._kind, **details})
        return {"name": name, "namespace": namespace, "uid": None, "details": text}


class RayClusterClient(_Client):
    """A client for RayClusters."""

    _kind = "RayCluster"
    _option = "ray_cluster"

    @contextmanager
    def port_forward(self, name: str, namespace: str) -> Generator[tuple[int, int], None, None]:
        """Forwards local ports to the head's dashboard and Ray Client server, and yields them."""
        endpoints = self._clusters.endpoints(self._ref(name, namespace))
        service = head_service(endpoints, namespace)
        dashboard = self.backend_for().forward(namespace, service, DASHBOARD_PORT)
        try:
            ray_client = self.backend_for().forward(namespace, service, CLIENT_PORT)
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

        endpoints = self._clusters.endpoints(self._ref(name, namespace))
        service = head_service(endpoints, namespace)
        token = self.backend_for().ray_token(namespace, service, DASHBOARD_PORT)
        headers = None if token is None else {"Authorization": f"Bearer {token}"}
        with self.port_forward(name, namespace) as (port, _):
            yield JobSubmissionClient(f"http://127.0.0.1:{port}", headers=headers)


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
        return self._cluster_client()

    def raise_if_deployment_failed(self, name: str, namespace: str) -> Document:
        """Raises `BackendError` if KubeRay has failed the job. Returns its status otherwise."""
        return _status(self._find(name, namespace, "not-failed"))

    def wait_until_deployment_ready(
        self, name: str, namespace: str, timeout: float = 600.0, poll_interval: float = 1.0
    ) -> Document:
        """Waits until the job's cluster is ready, and returns the job's status.

        `poll_interval` is ignored.
        """
        what = f"the cluster of the RayJob {namespace}/{name}"
        return _status(self._await(name, namespace, "cluster-ready", timeout, what))

    def wait_until_running(
        self,
        name: str,
        namespace: str,
        timeout: float = 600.0,
        poll_interval: float = 1.0,
        terminate_on_timeout: bool = True,
    ) -> Document:
        """Waits until Ray has started the job, and returns the job's status.

        `poll_interval` is ignored.
        """
        try:
            return _status(self._await(name, namespace, "started", timeout))
        except CallTimeoutError:
            if terminate_on_timeout and not self.terminate(name, namespace):
                self.delete(name, namespace)
            raise

    def terminate(self, name: str, namespace: str) -> bool:
        """Stops the Ray job, and keeps the RayJob. Returns `False` if Ray has no such job."""
        info = self._find(name, namespace)
        job = info["job"] if info else None
        cluster = _status(info).get("rayClusterName")
        if not cluster or not job or not job["submission_id"]:
            return False
        with self.ray_cluster_client.job_submission_client(cluster, namespace) as jobs:
            return jobs.stop_job(job["submission_id"])


ClientT = TypeVar("ClientT", bound=_Client)


class _ClientResource(Resource):
    """A Dagster resource with the access to Kubernetes."""

    kube_context: str | None = Field(default=None, description=described("kube_context"))
    kube_config: str | None = Field(default=None, description=described("kube_config"))
    backend_grants: Document | None = Field(default=None, description=described("backend_grants"))
    backend_sha256: str | None = Field(default=None, description=described("backend_sha256"))

    def __init__(self, **data: Any) -> None:
        if "kubeconfig_file" in data:
            data["kube_config"] = data.pop("kubeconfig_file")
        super().__init__(**data)

    _is_checked: bool = PrivateAttr(default=False)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        check_resource(context, self)
        self._is_checked = True

    def _new(self, client: type[ClientT]) -> ClientT:
        made = client(
            self.kube_config,
            self.kube_context,
            backend_grants=self.backend_grants,
            backend_sha256=self.backend_sha256,
        )
        made.is_checked = self._is_checked
        return made


class KubeRayClusterClientResource(_ClientResource):
    """Provides steps with a :class:`RayClusterClient`."""

    @property
    def client(self) -> RayClusterClient:
        """The client, for code that reads `resource.client`."""
        return self._new(RayClusterClient)

    def create_resource(self, context: dg.InitResourceContext) -> Any:
        return self.client


class KubeRayJobClientResource(_ClientResource):
    """Provides steps with a :class:`RayJobClient`."""

    @property
    def client(self) -> RayJobClient:
        """The client, for code that reads `resource.client`."""
        return self._new(RayJobClient)

    def create_resource(self, context: dg.InitResourceContext) -> Any:
        return self.client


# The names in earlier releases.
KubeRayClient = KubeRayClusterClientResource
RayClusterClientResource = KubeRayClusterClientResource


def _document(info: ClusterInfo) -> Document:
    return json.loads(info["document"])


def _status(info: ClusterInfo | None) -> Document:
    """Returns the status in an object's document, or `{}` if there is none."""
    return (_document(info).get("status") or {}) if info else {}


__all__ = [
    "KubeRayClient",
    "KubeRayClusterClientResource",
    "KubeRayJobClientResource",
    "RayClusterClient",
    "RayClusterClientResource",
    "RayJobClient",
]
