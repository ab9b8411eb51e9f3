"""The operations that the clients for KubeRay's custom resources have in common."""

import json
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar, Generic, Literal, TypeVar, cast

from dagster_ray.backend import write_to_logging
from dagster_ray.configs import BackendKeywords
from dagster_ray.contract import (
    ClusterClient,
    ClusterInfo,
    ClusterRef,
    ClusterSpec,
    EndpointSet,
    Owner,
    Query,
)
from dagster_ray.env_selectors import resolved_fields
from dagster_ray.errors import CallTimeoutError, NotFoundError, UnsupportedError
from dagster_ray.instance_policy import check_code
from dagster_ray.kuberay.backend import DEFAULT_BACKEND, DashboardAccess, KubeRay
from dagster_ray.kuberay.default_groups import Document
from dagster_ray.kuberay.ready import GRACE_SECONDS, wait_until_ready

if TYPE_CHECKING:
    from typing_extensions import Self

StatusT = TypeVar("StatusT")

RAY_CLUSTER = "RayCluster"
"""The kind of a cluster."""

# The states that the component can wait for.
Milestone = Literal["exists", "status", "not-failed", "cluster-named", "cluster-ready", "started"]


class BaseKubeRayClient(Generic[StatusT]):
    """Operations on one kind of custom resource of KubeRay.

    The component reads, watches and changes the objects, and the host connects to Kubernetes. A
    `poll_interval` has no effect: changes are watched.
    """

    group: ClassVar[str] = "ray.io"
    version: ClassVar[str] = "v1"
    kind: ClassVar[str]
    plural: ClassVar[str]
    # The component's option with the manifest of an object to create.
    _option: ClassVar[str]

    def __init__(
        self,
        kube_config: str | None = None,
        kube_context: str | None = None,
        api_client: object = None,
        *,
        config_file: str | None = None,
        context: str | None = None,
        backend_grants: Mapping[str, object] | None = None,
        backend_sha256: str | None = None,
        dashboard_link: str | None = None,
        unreachable_timeout: float | None = None,
        backend_config: Mapping[str, object] | None = None,
    ) -> None:
        if api_client is not None:
            raise UnsupportedError(
                "api_client: this client does not use the package `kubernetes`; the host connects "
                "to the API server. Write kube_config and kube_context"
            )
        self._access: BackendKeywords = {
            "kube_config": kube_config or config_file,
            "kube_context": kube_context or context,
            "backend_grants": backend_grants,
            "backend_sha256": backend_sha256,
            "dashboard_link": dashboard_link,
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
        connection = cast("BackendKeywords", resolved_fields(self._access))
        if not self.is_checked:
            check_code(None, connection)
        if access is not None:
            access = DashboardAccess(**resolved_fields(vars(access)))
            # The resource that provides the client does not have these fields.
            check_code(None, vars(access))
        return KubeRay(
            is_checked=self.is_checked or is_checked,
            start_timeout=start_timeout,
            access=access,
            **{**connection, "backend": name},
        )

    def get(self, name: str, namespace: str) -> Document:
        """Returns the object, or `{}` if it does not exist."""
        info = self._find(name, namespace)
        return {} if info is None else document_of(info)

    def list(self, namespace: str, label_selector: str = "", async_req: bool = False) -> Document:
        """Returns a namespace's objects that match a label selector, as `{"items": […]}`."""
        if async_req:
            raise UnsupportedError("async_req: must be False; call `list` in a thread instead")
        check_code(None, {"namespace": namespace})
        query: Query = {
            "namespace": namespace,
            "labels": [],
            "selector": label_selector or None,
            "kind": self.kind,
        }
        return {"items": [document_of(info) for info in self._clusters.list_(query)]}

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
        return document_of(self._clusters.update(self._ref(name, namespace), json.dumps(body)))

    def update_json_patch(
        self, name: str, namespace: str, body: Iterable[Mapping[str, object]]
    ) -> Document:
        """Applies a JSON patch (RFC 6902) to the object, and returns it."""
        patch = json.dumps([dict(step) for step in body])
        return document_of(self._clusters.update(self._ref(name, namespace), patch))

    def get_status(
        self, name: str, namespace: str, timeout: float = 60.0, poll_interval: float = 1.0
    ) -> StatusT:
        """Waits until KubeRay has set the object's `status`, and returns it."""
        what = f"the status of the {self.kind} {namespace}/{name}"
        return self._status_of(self._await(name, namespace, "status", timeout, what))

    def wait_until_exists(
        self, name: str, namespace: str, timeout: float = 60.0, poll_interval: float = 1.0
    ) -> Document:
        """Waits until the object exists, and returns it."""
        return document_of(self._await(name, namespace, "exists", timeout))

    def wait_for_service_endpoints(
        self,
        service_name: str,
        namespace: str,
        poll_interval: float = 1.0,
        timeout: float = 600.0,
    ) -> None:
        """Waits until the cluster with this head service is ready."""
        deadline = time.monotonic() + timeout
        what = f"the service {namespace}/{service_name}"
        kind = {"kind": RAY_CLUSTER}
        service = {**kind, "head_service": service_name}
        found = self._await("", namespace, "exists", timeout, what, **service)
        left = max(deadline - time.monotonic(), 0.0)
        self._wait_until_ready(found["cluster"]["name"], namespace, left, 0.0, False, **kind)

    @property
    def _clusters(self) -> ClusterClient:
        return ClusterClient(self.backend_for())

    def _status_of(self, info: ClusterInfo | None) -> StatusT:
        """Returns the status in an object's document, or `{}` if there is none."""
        status: object = document_of(info).get("status") if info else None
        return cast(StatusT, status or {})

    def _wait_until_ready(
        self,
        name: str,
        namespace: str,
        timeout: float,
        failure_tolerance_timeout: float,
        log_cluster_conditions: bool,
        **details: object,
    ) -> EndpointSet:
        tolerance = int(failure_tolerance_timeout * 1000)
        ref = self._ref(name, namespace, failure_tolerance_ms=tolerance, **details)
        write = write_to_logging if log_cluster_conditions else _write_quietly
        return wait_until_ready(self._clusters, ref, timeout, write=write)

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
            return self._clusters.get(ref, timeout=timeout + GRACE_SECONDS)
        except CallTimeoutError as error:
            what = what or f"the {self.kind} {namespace}/{name}"
            problem = f"{what}: not available after {timeout:g} s"
            raise CallTimeoutError(problem, seconds=timeout) from error

    def _ref(self, name: str, namespace: str, **details: object) -> ClusterRef:
        """Returns a reference. The component finds the object by its details, too."""
        check_code(None, {"namespace": namespace})
        text = json.dumps({"kind": self.kind, **details})
        return {"name": name, "namespace": namespace, "uid": None, "details": text}


def _write_quietly(level: str, message: str) -> None:
    write_to_logging("debug" if level == "info" else level, message)


def document_of(info: ClusterInfo) -> Document:
    """Returns the complete object."""
    return json.loads(info["document"])


__all__ = ["RAY_CLUSTER", "BaseKubeRayClient", "Milestone", "StatusT", "document_of"]
