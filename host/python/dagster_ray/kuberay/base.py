"""The base class of the resources whose cluster KubeRay creates."""

import json
import os
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from pydantic import Field, PrivateAttr
from typing_extensions import Unpack

from dagster_ray import ray_access
from dagster_ray.configs import Lifecycle, image
from dagster_ray.contract import (
    ClusterClient,
    ClusterRef,
    ClusterSpec,
    EndpointSet,
    ListenerOptions,
    Write,
)
from dagster_ray.deployment import deployment_id, deployment_name
from dagster_ray.instance_policy import resource_key
from dagster_ray.kuberay.backend import DEFAULT_BACKEND, KubeRay, head_service
from dagster_ray.kuberay.ready import wait_until_ready
from dagster_ray.kuberay.service_names import k8s_service_fqdn
from dagster_ray.ray_connection import authenticated
from dagster_ray.resources import RayResource
from dagster_ray.specs import attributes
from dagster_ray.types import AnyDagsterContext

if TYPE_CHECKING:
    from dagster_ray._native import Forward

# The step and its attempt, in a step worker on Ray (`components/submission/src/environment.rs`).
_STEP_KEY_VARIABLE = "DAGSTER_RUN_STEP_KEY"
_ATTEMPT_VARIABLE = "DAGSTER_RAY_STEP_ATTEMPT"


class BaseKubeRayResource(RayResource):
    """A Ray cluster that KubeRay creates for a step."""

    image: str | None = Field(
        default=None,
        description=(
            "The image of containers without one. Default: the run tag `dagster/image`, or the "
            "image of the code location."
        ),
    )
    deployment_name: str = Field(
        default_factory=deployment_name, description="The Dagster deployment, used as a label."
    )
    failure_tolerance_timeout: float = Field(
        default=0.0, description="Seconds that KubeRay may report a failed cluster state."
    )
    poll_interval: float = Field(
        default=1.0, description="Ignored: clusters are watched. Kept for older configurations."
    )
    log_cluster_conditions: bool = Field(
        default=True, description="Log the cluster's conditions while waiting for it."
    )
    backend: str = Field(
        default=DEFAULT_BACKEND, description="`kuberay`, or the path of a component (`.wasm`)."
    )

    _ref: ClusterRef | None = PrivateAttr(default=None)
    _endpoints: EndpointSet | None = PrivateAttr(default=None)
    _forwards: dict[int, "Forward"] = PrivateAttr(default_factory=dict[int, "Forward"])
    _kuberay: KubeRay | None = PrivateAttr(default=None)
    _connection: ExitStack = PrivateAttr(default_factory=ExitStack)

    def __init__(self, **data: Any) -> None:
        super().__init__(**_with_lifecycle(data, type(self)))

    @property
    @abstractmethod
    def namespace(self) -> str:
        """The Kubernetes namespace of the cluster."""

    @abstractmethod
    def _options(self, context: AnyDagsterContext) -> dict[str, object]:
        """Returns the component's options for the cluster."""

    @property
    def host(self) -> str:
        if self._host is None:
            raise RuntimeError(f"{self.display_name} is not ready: call `wait` first")
        return self._host

    @property
    def name(self) -> str:
        if self._name is None:
            raise RuntimeError("the cluster has no name yet: call `create` first")
        return self._name

    @property
    def display_name(self) -> str:
        if self._ref is None:
            return f"a new {self._kind}"
        return f"{self._kind} {self._ref['namespace']}/{self._ref['name']}"

    @property
    def ray_address(self) -> str:
        host, port = self._reached(self.redis_port)
        return f"ray://{host}:{port}"

    @property
    def dashboard_url(self) -> str:
        host, port = self._reached(self.dashboard_port)
        return f"http://{host}:{port}"

    def resolve_hostname(self, service_name: str, namespace: str) -> str:
        """Returns the host name at which this process reaches a Kubernetes service.

        Override it for another DNS domain than `cluster.local`, or for a name outside the cluster:
        outside Kubernetes, the name of an override replaces the port-forward.
        """
        return k8s_service_fqdn(service_name, namespace)

    def get_k8s_labels(self, context: AnyDagsterContext) -> dict[str, str]:
        """Returns the labels of created objects. The component converts them to valid labels."""
        return self.get_dagster_tags(context)

    def get_dagster_tags(self, context: AnyDagsterContext) -> dict[str, str]:
        tags = {"dagster/deployment": self.deployment_name, **super().get_dagster_tags(context)}
        key = resource_key(context)
        return tags if key is None else {**tags, "dagster/resource-key": key}

    def get_image(self, context: AnyDagsterContext) -> str | None:
        """Returns the image of containers without one."""
        return self.image or image(context.run)

    def create(self, context: AnyDagsterContext) -> None:
        run_id = context.run.run_id if context.run else ""
        spec: ClusterSpec = {
            "name": None,
            "owner": {
                "deployment": deployment_id(context.instance),
                "run_id": run_id,
                "step_key": os.environ.get(_STEP_KEY_VARIABLE),
                "resource_key": resource_key(context),
                "holder": self._holder(context),
            },
            "image": self.get_image(context),
            "labels": attributes({**self.get_k8s_labels(context), **self._lifetime_labels()}),
            "env": attributes(self.get_env_vars_to_inject()),
            "options": json.dumps(
                {
                    **self._options(context),
                    "failure_tolerance_seconds": self.failure_tolerance_timeout,
                }
            ),
        }
        creation = self._clusters(context).create(spec)
        if "joined" in creation:
            self._creation_verb, ref = "Using", creation["joined"]
        else:
            self._creation_verb, ref = "Created", creation["created"]
        self._ref, self._name = ref, ref["name"]

    def _lifetime_labels(self) -> dict[str, str]:
        """Returns the labels that decide when the cluster has outlived its step."""
        labels: dict[str, str] = {}
        key, attempt = (os.environ.get(name) for name in (_STEP_KEY_VARIABLE, _ATTEMPT_VARIABLE))
        if key and attempt:
            labels = {"dagster/op": key, "dagster-ray/attempt": attempt}
        if self.lifecycle.cleanup != "always":
            # The user keeps the cluster after its step, so only its age ends it.
            labels["dagster-ray/keep"] = "true"
        return labels

    def wait(self, context: AnyDagsterContext) -> None:
        self._endpoints = wait_until_ready(self._clusters(context), self._cluster, self.timeout)
        if self._is_named:
            self._host = self.resolve_hostname(self._service, self.namespace)
        else:
            self._host = "127.0.0.1"

    def on_ready(self, context: AnyDagsterContext) -> None:
        super().on_ready(context)
        if self._calls.service_route() == "this-machine":
            return
        ports = " ".join(f"{port}:{port}" for port in (self.dashboard_port, self.redis_port))
        self._log(context).info(
            f"{self.display_name} is ready. To reach it from another machine: "
            f"kubectl -n {self.namespace} port-forward svc/{self._service} {ports}"
        )

    def connect(self, context: AnyDagsterContext) -> Any:
        # Until the disconnection: Ray Client sends the token with each request.
        self._connection.enter_context(authenticated(self._token()))
        return super().connect(context)

    def delete(self, context: AnyDagsterContext) -> bool:
        return self._clusters(context).delete(self._cluster)

    def cleanup(self, context: AnyDagsterContext, exception: BaseException | None) -> None:
        try:
            super().cleanup(context, exception)
        finally:
            self._connection.close()
            while self._forwards:
                self._forwards.popitem()[1].close()

    @property
    def _kind(self) -> str:
        return "RayCluster"

    @property
    def _calls(self) -> KubeRay:
        if self._kuberay is None:
            self._kuberay = self._new_backend()
        return self._kuberay

    @property
    def _cluster(self) -> ClusterRef:
        if self._ref is None:
            raise RuntimeError("the cluster does not exist yet: call `create` first")
        return self._ref

    @property
    def _service(self) -> str:
        """The name of the Kubernetes service of the Ray head, in the cluster's namespace."""
        if self._endpoints is None:
            raise RuntimeError(f"{self.display_name} is not ready: call `wait` first")
        return head_service(self._endpoints, self.namespace)

    @property
    def _is_named(self) -> bool:
        """Whether this process reaches the Ray head by the name of `resolve_hostname`."""
        route = self._calls.service_route()
        is_overridden = type(self).resolve_hostname is not BaseKubeRayResource.resolve_hostname
        return route == "cluster-dns" or (route == "port-forward" and is_overridden)

    @abstractmethod
    def _new_backend(self) -> KubeRay:
        """Returns a backend with the client's access to Kubernetes."""

    def _called(
        self,
        context: AnyDagsterContext,
        export: str,
        arguments: Mapping[str, object],
        **options: Unpack[ListenerOptions],
    ) -> object:
        """Calls an export for a step. By default, its reports go to the step's log."""
        options.setdefault("write", self._writer(context))
        return self._calls.call(export, arguments, **options)

    def _clusters(self, context: AnyDagsterContext) -> ClusterClient:
        return ClusterClient(_StepCaller(self, context))

    def _writer(self, context: AnyDagsterContext) -> Write:
        log = self._log(context)

        def write(level: str, message: str) -> None:
            if not self.log_cluster_conditions and level == "info":
                level = "debug"
            getattr(log, level, log.info)(message)

        return write

    def _token(self) -> str | None:
        """Returns the token of a cluster with `auth_options`, which the host reads."""
        if not ray_access.current().connects_to_ray:
            return None
        return self._calls.ray_token(self.namespace, self._service, self.redis_port)

    def _holder(self, context: AnyDagsterContext) -> str:
        run_id = context.run.run_id if context.run else ""
        return f"{run_id}-{self.resource_uid}"

    def _reached(self, port: int) -> tuple[str, int]:
        """Returns the host and port for a port of the Ray head, forwarded outside Kubernetes."""
        if self._is_named or self._calls.service_route() != "port-forward":
            return self.host, port
        if port not in self._forwards:
            self._forwards[port] = self._calls.forward(self.namespace, self._service, port)
        return "127.0.0.1", self._forwards[port].port


class _StepCaller:
    """Calls the component of a resource for a step."""

    def __init__(self, resource: BaseKubeRayResource, context: AnyDagsterContext) -> None:
        self._resource = resource
        self._context = context

    def call(
        self, export: str, arguments: Mapping[str, object], **options: Unpack[ListenerOptions]
    ) -> object:
        return self._resource._called(self._context, export, arguments, **options)  # pyright: ignore[reportPrivateUsage]


def _with_lifecycle(data: dict[str, Any], cls: type[RayResource]) -> dict[str, Any]:
    """Sets `lifecycle` from its older names, and fills in the defaults of the resource class.

    Dagster would use the defaults of :class:`Lifecycle`.
    """
    older = {"skip_init": "connect", "skip_setup": "create", "skip_cleanup": "cleanup"}
    given = {name: data[name] for name in older if name in data}
    lifecycle = data.get("lifecycle")
    if lifecycle is None:
        lifecycle = cls.model_fields["lifecycle"].get_default(call_default_factory=True)
    if isinstance(lifecycle, Lifecycle):
        lifecycle = lifecycle.model_dump()
    changes: dict[str, Any] = {
        older[name]: "never" if name == "skip_cleanup" else False
        for name, skipped in given.items()
        if skipped
    }
    rest = {key: value for key, value in data.items() if key not in older}
    return {**rest, "lifecycle": Lifecycle(**{**lifecycle, **changes})}


__all__ = ["BaseKubeRayResource"]
