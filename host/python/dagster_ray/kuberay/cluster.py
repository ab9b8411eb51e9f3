"""The resource for a dedicated or shared RayCluster."""

import logging
import math
import re
import threading
from collections.abc import Callable

import dagster as dg
from pydantic import Field, PrivateAttr

from dagster_ray.configs import Lifecycle
from dagster_ray.errors import DagsterRayError, InvalidConfigError
from dagster_ray.kuberay.backend import KubeRay
from dagster_ray.kuberay.base import BaseKubeRayResource
from dagster_ray.kuberay.client import RayClusterClient
from dagster_ray.kuberay.client_resources import KubeRayClusterClientResource
from dagster_ray.kuberay.configs import ClusterSharing, RayClusterConfig
from dagster_ray.kuberay.label_values import normalize_k8s_label_values
from dagster_ray.types import AnyDagsterContext

# The label of each cluster that can be shared.
_SHARING = "dagster/cluster-sharing"
# A requirement of a label selector that a new cluster can be made to match.
_EQUALITY = re.compile(r"([^\s=!]+)\s*==?\s*([^\s=!]*)")
# The tag that each field of `match_dagster_labels` selects.
_MATCHED = {
    "code_location": "dagster/code-location",
    "resource_key": "dagster/resource-key",
    "git_sha": "dagster/git-sha",
    "run_id": "dagster/run-id",
}


class KubeRayCluster(BaseKubeRayResource):
    """Creates a RayCluster for the step, connects through Ray Client, and deletes it afterwards."""

    lifecycle: Lifecycle = Field(default_factory=lambda: Lifecycle(cleanup="always"))
    ray_cluster: RayClusterConfig = Field(
        default_factory=RayClusterConfig, description="The RayCluster to create."
    )
    cluster_sharing: ClusterSharing = Field(
        default_factory=ClusterSharing, description="Whether and how steps share a cluster."
    )
    # Dagster's type accepts a client or a resource, but not a default factory.
    client: dg.ResourceDependency[RayClusterClient] = Field(
        default_factory=KubeRayClusterClientResource
    )  # type: ignore

    _heartbeat: "_Heartbeat | None" = PrivateAttr(default=None)
    _released: bool = PrivateAttr(default=False)

    @property
    def namespace(self) -> str:
        actual = None if self._ref is None else self._ref["namespace"]
        return actual or self.ray_cluster.namespace

    def get_image(self, context: AnyDagsterContext) -> str | None:
        return self.ray_cluster.image or super().get_image(context)

    def get_sharing_label_selector(self, context: AnyDagsterContext) -> str:
        """Returns the label selector of the clusters that the step may join, such as `a=b,c=d`.

        An override can choose other clusters. A cluster that is created gets these labels, so that
        other steps find it; hence only `key=value` is allowed.
        """
        matched = self.cluster_sharing.match_dagster_labels
        tags = self.get_dagster_tags(context)
        labels = {
            tag: tags[tag]
            for switch, tag in _MATCHED.items()
            if getattr(matched, switch) and tag in tags
        }
        labels |= {_SHARING: "true", **(self.cluster_sharing.match_labels or {})}
        return ",".join(f"{k}={v}" for k, v in normalize_k8s_label_values(labels).items())

    def on_create(self, context: AnyDagsterContext) -> None:
        super().on_create(context)
        heartbeat = self.cluster_sharing.heartbeat
        if self.cluster_sharing.enabled and heartbeat.enabled:
            self._heartbeat = _Heartbeat(
                lambda: self._clusters(context).renew(self._cluster, self._holder(context)),
                heartbeat.refresh_seconds,
                self._log(context),
            )

    def cleanup(self, context: AnyDagsterContext, exception: BaseException | None) -> None:
        if self._heartbeat is not None:
            self._heartbeat.stop()
        try:
            super().cleanup(context, exception)
        finally:
            # Release the lease under every cleanup policy, so that it does not keep the cluster.
            if self.cluster_sharing.enabled and self.created and not self._released:
                self._release(context)

    def _options(self, context: AnyDagsterContext) -> dict[str, object]:
        options: dict[str, object] = {"ray_cluster": self.ray_cluster.to_k8s(context)}
        if self.cluster_sharing.enabled:
            sharing = self.cluster_sharing
            options["sharing"] = {
                "match_labels": _required_labels(self.get_sharing_label_selector(context)),
                "ttl_seconds": int(sharing.ttl_seconds),
                "join_timeout_seconds": int(sharing.join_timeout_seconds),
                "delete_when_released": self.lifecycle.cleanup == "always",
            }
            if sharing.heartbeat.enabled:
                options["sharing"]["renew_seconds"] = math.ceil(sharing.heartbeat.refresh_seconds)
        return options

    def _delete(self, context: AnyDagsterContext) -> bool:
        if not self.cluster_sharing.enabled:
            return super()._delete(context)
        return self._release(context)

    def _release(self, context: AnyDagsterContext) -> bool:
        self._released = True
        return self._clusters(context).release(self._cluster, self._holder(context))

    def _new_backend(self) -> KubeRay:
        return self.client.backend_for(self.backend, is_checked=self._is_checked)


def _required_labels(selector: str) -> dict[str, str]:
    """Returns the labels that a selector requires."""
    labels: dict[str, str] = {}
    for requirement in selector.split(","):
        found = _EQUALITY.fullmatch(requirement.strip())
        if found is None:
            raise InvalidConfigError(
                f"get_sharing_label_selector: {requirement.strip()!r} in {selector!r} is not "
                "key=value. A cluster that is created gets the selector's labels; write for "
                "example team=models,stage=dev"
            )
        labels[found[1]] = found[2]
    return labels


class _Heartbeat:
    """Renews the lease on a shared cluster in a thread until it is stopped."""

    def __init__(self, renew: Callable[[], None], seconds: float, log: logging.Logger) -> None:
        self._renew = renew
        self._seconds = seconds
        self._log = log
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="dagster-ray-lock-heartbeat", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stops the thread, and waits for it: a late renewal would acquire the lease again."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self._renew()
            except DagsterRayError as error:
                self._log.warning(f"The lease on the shared cluster was not renewed: {error}")


__all__ = ["KubeRayCluster"]
