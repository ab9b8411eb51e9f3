"""Checks the access to Kubernetes, the permissions, and KubeRay."""

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, cast

import yaml

from dagster_ray import _library
from dagster_ray.backend import Backend
from dagster_ray.contract import ClusterClient, ClusterRef, ClusterSpec
from dagster_ray.default_namespace import default_namespace
from dagster_ray.deployment import deployment_id
from dagster_ray.doctor.check import Check, failed, not_checked, ok, warning
from dagster_ray.doctor.subject import Subject
from dagster_ray.errors import DagsterRayError, UnsupportedError

_library.register()

_KUBERAY = "ray.io"
_INSTALL = "install the KubeRay operator with its CRDs, 1.4 or later"
# KubeRay 1.4 added this field of a RayJob's status (`rayjob_types.go`).
_FIELD_OF_1_4 = ("RayJob.status", "rayJobInfo")
_SEE = "the API server refused this: see its message"
_OPERATOR_SECONDS = 20.0
_POLL_SECONDS = 0.5


def check_kubernetes(subject: Subject, backend: Backend) -> Iterator[Check]:
    """Checks the API server, the permissions, the CRDs, the operator and the image.

    There is nothing to check for a component without the grant `kubernetes`.
    """
    namespace = _namespace(subject, backend)
    try:
        review = json.loads(backend.review(namespace, tokens=_has_tokens(backend)))
    except DagsterRayError as error:
        subject.is_on_kubernetes = True
        remedy = (
            "correct the kubeconfig (`kubectl get pods` uses the same), `kube_config` or "
            "`kube_context`"
        )
        yield failed("kubernetes", str(error), remedy)
        return
    if review is None:
        return
    subject.is_on_kubernetes = True
    place = "from a pod" if review["is_inside"] else "from outside the cluster"
    yield ok("kubernetes", f"{review['location']}, {place}")
    missing = review["missing"]
    if missing:
        yield failed(
            "permissions",
            f"the account lacks permissions in the namespace {namespace}",
            f"add to its Role:\n{yaml.safe_dump({'rules': missing}, sort_keys=False).rstrip()}",
            missing=missing,
        )
    else:
        count = len(review["required"])
        yield ok(
            "permissions",
            f"the account may do what the component's {count} rules need in {namespace}",
        )
    yield not_checked(
        "pod account",
        "the permissions of the pods that execute runs, whose executor creates RayJobs",
        "run `dagster-ray doctor` in a pod with their service account, or apply deploy/kubernetes",
    )
    usable = True
    for group in review["groups"]:
        check = _check_group(group)
        usable = usable and check.outcome != "failed"
        yield check
    if usable:
        yield _check_operator(subject, backend, namespace, missing)
    yield _check_image(subject, backend)


def _check_group(group: Mapping[str, Any]) -> Check:
    name, versions, fields = group["name"], group["versions"], group["fields"]
    if not versions or group["unserved"]:
        absent = ", ".join(group["unserved"]) or "the API group"
        return failed("crds", f"the API server does not have {absent} of {name}", _INSTALL)
    part, field = _FIELD_OF_1_4
    served = f"{name} {', '.join(versions)}"
    if name != _KUBERAY:
        return ok("crds", served)
    if not fields:
        return not_checked(
            "crds", f"{served}; the fields cannot be read, so the version is unknown"
        )
    if field not in fields.get(part, []):
        return failed("crds", f"{served}: the CRDs are older than KubeRay 1.4", _INSTALL)
    return ok("crds", f"{served}, of KubeRay 1.4 or later")


def _check_operator(
    subject: Subject, backend: Backend, namespace: str, missing: list[Mapping[str, Any]]
) -> Check:
    """Creates a suspended RayCluster, for which the operator starts no pod, and deletes it."""
    for rule in missing:
        if "rayclusters" in rule["resources"]:
            return not_checked(
                "operator", "the account may not create, read and delete RayClusters"
            )
    clusters = ClusterClient(backend)
    try:
        created = clusters.create(_suspended(subject, namespace))
    except UnsupportedError as error:
        return not_checked("operator", str(error))
    except DagsterRayError as error:
        return failed("operator", str(error), _SEE)
    cluster = created["created"] if "created" in created else created["joined"]
    try:
        check = _await_operator(clusters, cluster, namespace)
    except DagsterRayError as error:
        check = failed("operator", str(error), _SEE)
    try:
        clusters.delete(cluster)
    except DagsterRayError as error:
        return warning(
            "operator",
            f"{check.message}; the RayCluster of this check was not deleted: {error}",
            f"kubectl delete raycluster -n {namespace} {cluster['name']}",
        )
    return check


def _await_operator(clusters: ClusterClient, cluster: ClusterRef, namespace: str) -> Check:
    deadline = time.monotonic() + _OPERATOR_SECONDS
    while clusters.get(cluster)["state"] != "suspended":
        if time.monotonic() > deadline:
            return failed(
                "operator",
                f"KubeRay's operator has not suspended a RayCluster in {namespace} within "
                f"{_OPERATOR_SECONDS:g} s",
                f"start the operator, and let it watch the namespace {namespace}",
            )
        time.sleep(_POLL_SECONDS)
    return ok("operator", f"KubeRay's operator handles RayClusters in {namespace}")


def _suspended(subject: Subject, namespace: str) -> ClusterSpec:
    container = {"name": "ray-head", "image": "rayproject/ray"}
    head = {"rayStartParams": {}, "template": {"spec": {"containers": [container]}}}
    name = f"dagster-ray-doctor-{uuid.uuid4().hex[:8]}"
    manifest = {"metadata": {"name": name}, "spec": {"suspend": True, "headGroupSpec": head}}
    return {
        "name": None,
        "owner": {
            "deployment": deployment_id(subject.instance),
            "run_id": str(uuid.uuid4()),
            "step_key": None,
            "resource_key": None,
            "holder": name,
        },
        "image": None,
        "labels": [],
        "env": [],
        "options": json.dumps({"namespace": namespace, "ray_cluster": manifest}),
    }


def _check_image(subject: Subject, backend: Backend) -> Check:
    if subject.options.start_cluster:
        return ok("image", "the job below runs in the image that a run would use")
    image = (backend.config.backend_config or {}).get("image")
    if image is None:
        return not_checked(
            "image",
            "no `image` is configured: a run uses its tag dagster/image or its location's image",
            "set backend_config.image if runs have neither",
        )
    return not_checked(
        "image",
        f"whether {image} has dagster, dagster-ray-wasm and ray: that needs a container",
        "--start-cluster starts one",
    )


def _namespace(subject: Subject, backend: Backend) -> str:
    configured = (backend.config.backend_config or {}).get("namespace")
    found = subject.options.namespace or configured
    return found if isinstance(found, str) and found else default_namespace()


def _has_tokens(backend: Backend) -> bool:
    """Whether the configured clusters have tokens, which the host reads."""
    found: object = backend.config.backend_config or {}
    for key in ("ray_job", "spec", "rayClusterSpec", "authOptions", "mode"):
        found = cast("Mapping[str, object]", found).get(key) if isinstance(found, Mapping) else None
    return found == "token"


__all__ = ["check_kubernetes"]
