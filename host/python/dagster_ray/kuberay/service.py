"""A Dagster resource and assets for applications of Ray Serve, as RayServices of KubeRay."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import dagster as dg
from pydantic import Field, PrivateAttr

from dagster_ray.backend import Backend
from dagster_ray.configs import image, run_tags
from dagster_ray.contract import ClusterClient, ClusterInfo, ClusterRef, ClusterSpec, Write
from dagster_ray.dagster_typing import Resource
from dagster_ray.default_namespace import default_namespace
from dagster_ray.deployment import deployment_id
from dagster_ray.errors import InvalidConfigError, NotFoundError
from dagster_ray.instance_policy import check_resource, resource_key
from dagster_ray.kuberay.client import RayClusterClient
from dagster_ray.kuberay.client.base import document_of
from dagster_ray.kuberay.client_resources import KubeRayClusterClientResource
from dagster_ray.kuberay.default_groups import Document
from dagster_ray.kuberay.ready import GRACE_SECONDS
from dagster_ray.specs import attributes
from dagster_ray.types import AnyDagsterContext

# The overloads of `asset` reject options that are passed on.
_dagster: Any = dg
_KIND = "RayService"
_VERSION = "dagster-ray/service-version"


@dataclass(frozen=True)
class RayServeDeployment:
    """A deployed RayService."""

    name: str
    namespace: str
    url: str
    """The URL of Serve's proxies, in the Kubernetes cluster."""
    version: str
    """A digest of the deployed specification."""
    cluster: str
    """The RayCluster that has the traffic."""
    applications: dict[str, str]
    """The status of each application by its name, such as `RUNNING`."""
    deployments: dict[str, str]
    """The status of each deployment, by the names of the application and the deployment."""
    seconds: float
    """The time until the specification had the traffic. Nearly 0 if nothing had changed."""

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of a materialization."""
        return {
            "url": dg.MetadataValue.url(self.url),
            "applications": self.applications,
            "deployments": self.deployments,
            "version": self.version,
            "RayCluster": self.cluster,
            "seconds until ready": self.seconds,
        }


class KubeRayServe(Resource):
    """Deploys applications of Ray Serve as RayServices of KubeRay.

    A RayService outlives the run that deploys it. Only this Dagster deployment changes or deletes
    it.
    """

    namespace: str = Field(
        default_factory=default_namespace, description="The Kubernetes namespace of the services."
    )
    image: str | None = Field(
        default=None,
        description="The image of containers without one. Default: the run tag `dagster/image`, or "
        "the image of the code location.",
    )
    ray_service: Document = Field(
        default_factory=dict,
        description="A RayService manifest to complete, with `metadata` and `spec` as KubeRay "
        "documents them, such as `{spec: {rayClusterConfig: {…}}}`.",
    )
    timeout: float = Field(
        default=1800.0,
        description="Seconds until a deployed service has to be healthy, and its earlier cluster "
        "has to be gone.",
    )
    port: int = Field(
        default=8000,
        description="The port of Serve's proxies, as in `http_options` of the configuration.",
    )
    # Dagster's type accepts a client or a resource, but not a default factory.
    client: dg.ResourceDependency[RayClusterClient] = Field(
        default_factory=KubeRayClusterClientResource
    )  # type: ignore

    _is_checked: bool = PrivateAttr(default=False)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        check_resource(context, self)
        self._is_checked = True

    def deploy(
        self,
        context: AnyDagsterContext,
        name: str,
        serve_config: Mapping[str, object] | str | None = None,
    ) -> RayServeDeployment:
        """Creates or updates the RayService `name`, and waits until it serves.

        `serve_config` is Serve's configuration with its `applications`, as a mapping or as YAML. A
        changed specification is deployed on a new RayCluster, which gets the traffic once it is
        healthy. Raises `BackendError` with Serve's reason if it does not become healthy. The
        version that was deployed before serves on.
        """
        started = time.monotonic()
        spec: ClusterSpec = {
            "name": name,
            "owner": {
                "deployment": deployment_id(context.instance),
                "run_id": context.run.run_id if context.run else "",
                "step_key": None,
                "resource_key": resource_key(context),
                "holder": "",
            },
            "image": self.image or image(context.run),
            "labels": attributes(run_tags(context.run)),
            "env": [],
            "options": json.dumps(
                {"namespace": self.namespace, "ray_service": self._manifest(serve_config)}
            ),
        }
        clusters = ClusterClient(self._backend())
        creation = clusters.create(spec)
        ref = creation["joined"] if "joined" in creation else creation["created"]
        clusters.wait(
            ref,
            int(self.timeout * 1000),
            timeout=self.timeout + GRACE_SECONDS,
            write=_writer(context),
        )
        return self._deployed(clusters.get(ref), time.monotonic() - started)

    def status(self, name: str) -> RayServeDeployment | None:
        """Returns the RayService `name`, healthy or not, or `None` if it does not exist."""
        try:
            info = ClusterClient(self._backend()).get(self._ref(name))
        except NotFoundError:
            return None
        return self._deployed(info, 0.0)

    def delete(self, context: AnyDagsterContext, name: str) -> bool:
        """Deletes the RayService `name` and its clusters. Returns whether it existed.

        Raises `ConflictError` if it is not of this Dagster deployment.
        """
        owner = {"deployment": deployment_id(context.instance)}
        return ClusterClient(self._backend()).delete(self._ref(name, **owner))

    def _manifest(self, serve_config: Mapping[str, object] | str | None) -> Document:
        if serve_config is None:
            return self.ray_service
        spec = cast("Document", self.ray_service.get("spec") or {})
        if "serveConfigV2" in spec:
            problem = "is set, and deploy() has a `serve_config`"
            path, hint = "ray_service.spec.serveConfigV2", "remove one of them"
            raise InvalidConfigError(
                f"{path}: {problem}; {hint}",
                fields=[{"path": path, "problem": problem, "hint": hint}],
            )
        # JSON is valid YAML.
        text = serve_config if isinstance(serve_config, str) else json.dumps(dict(serve_config))
        return {**self.ray_service, "spec": {**spec, "serveConfigV2": text}}

    def _deployed(self, info: ClusterInfo, seconds: float) -> RayServeDeployment:
        document = document_of(info)
        metadata: Document = document["metadata"]
        active: Document = document.get("status", {}).get("activeServiceStatus", {})
        found: Document = active.get("applicationStatuses", {})
        service: Document = document["spec"].get("serveService", {}).get("metadata", {})
        host = service.get("name", f"{metadata['name']}-serve-svc")
        return RayServeDeployment(
            name=metadata["name"],
            namespace=metadata["namespace"],
            url=f"http://{host}.{metadata['namespace']}.svc:{self.port}",
            version=metadata.get("annotations", {}).get(_VERSION, ""),
            cluster=active.get("rayClusterName", ""),
            applications={app: one.get("status", "") for app, one in found.items()},
            deployments={
                f"{app}/{name}": deployment.get("status", "")
                for app, one in found.items()
                for name, deployment in one.get("serveDeploymentStatuses", {}).items()
            },
            seconds=round(seconds, 1),
        )

    def _ref(self, name: str, **details: object) -> ClusterRef:
        text = json.dumps({"kind": _KIND, **details})
        return {"name": name, "namespace": self.namespace, "uid": None, "details": text}

    def _backend(self) -> Backend:
        return self.client.backend_for(is_checked=self._is_checked)


def ray_serve_asset(
    name: str,
    serve_config: Mapping[str, object] | str | None = None,
    *,
    resource: str = "ray_serve",
    **options: Any,
) -> dg.AssetsDefinition:
    """Returns an asset that is the RayService `name`.

    A materialization deploys it with the :class:`KubeRayServe` under the key `resource`, and
    records the URL, the applications, the version and the time until it was ready. `options` are
    those of `dagster.asset`, such as `deps` and `key`. The asset's name is by default `name` with
    underscores.
    """
    if "key" not in options:
        options.setdefault("name", name.replace("-", "_"))
    options.setdefault("kinds", {"ray", "kubernetes"})

    def service(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        serve: KubeRayServe = getattr(context.resources, resource)
        deployed = serve.deploy(context, name, serve_config)
        return dg.MaterializeResult(
            metadata=deployed.metadata, data_version=dg.DataVersion(deployed.version)
        )

    asset = _dagster.asset(required_resource_keys={resource}, **options)
    return cast("dg.AssetsDefinition", asset(service))


def _writer(context: AnyDagsterContext) -> Write:
    log: Any = context.log

    def write(level: str, message: str) -> None:
        if log is not None:
            getattr(log, level, log.info)(message)

    return write


__all__ = ["KubeRayServe", "RayServeDeployment", "ray_serve_asset"]
