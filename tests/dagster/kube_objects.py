"""Roles, service accounts and RayCluster specs for tests on KubeRay."""

import os
from pathlib import Path
from typing import Any

import dagster as dg
import manifests
import yaml
from cluster import Cluster
from dagster_ray.deployment import deployment_id
from document_blocks import page_block
from kubernetes import client

# The page with the Role. The rules below this line apply only to a process outside the cluster.
_PAGE = "docs/how-to/kuberay.md"
_OUTSIDE = "# From outside the cluster, also:"


def role_rules(*, outside: bool) -> list[dict[str, Any]]:
    """Returns the rules of the page's Role for a process outside the cluster or in a pod."""
    printed = page_block(_PAGE, "Permissions", "yaml")
    inside, marker, _ = printed.partition(_OUTSIDE)
    assert marker, f"{_PAGE} has no line {_OUTSIDE!r} in its Role"
    return yaml.safe_load(printed if outside else inside)["rules"]


def allow(
    cluster: Cluster,
    namespace: str,
    rules: list[dict[str, Any]] | None = None,
    account: str = "default",
) -> None:
    """Binds a Role with these rules to a service account of the namespace.

    By default, the rules are those that the page prints for a pod.
    """
    rbac: Any = client.RbacAuthorizationV1Api(cluster.api())
    metadata = {"name": f"dagster-ray-{account}", "namespace": namespace}
    rules = role_rules(outside=False) if rules is None else rules
    if any(
        role.metadata.name == metadata["name"]
        for role in rbac.list_namespaced_role(namespace).items
    ):
        return
    rbac.create_namespaced_role(namespace, {"metadata": metadata, "rules": rules})
    rbac.create_namespaced_role_binding(
        namespace,
        {
            "metadata": metadata,
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": metadata["name"],
            },
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
        },
    )


def account_kubeconfig(
    cluster: Cluster, namespace: str, account: str, rules: list[dict[str, Any]], folder: Path
) -> Path:
    """Creates a service account with exactly these rules, and returns its kubeconfig."""
    cluster.core.create_namespaced_service_account(namespace, {"metadata": {"name": account}})
    allow(cluster, namespace, rules, account)
    request = {"spec": {"expirationSeconds": 3600}}
    token = cluster.core.create_namespaced_service_account_token(account, namespace, request)
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    current = document["current-context"]
    [context] = [one for one in document["contexts"] if one["name"] == current]
    context["context"]["user"] = account
    document["contexts"] = [context]
    document["users"] = [{"name": account, "user": {"token": token.status.token}}]
    file = folder / f"kubeconfig-{account}"
    file.write_text(yaml.safe_dump(document))
    return file


def owner_label(instance: dg.DagsterInstance) -> dict[str, str]:
    """Returns the label of the objects that the instance's deployment owns."""
    return {"dagster-ray/deployment": deployment_id(instance)}


def make_cluster(
    cluster: Cluster,
    namespace: str,
    name: str,
    labels: dict[str, str],
    annotations: dict[str, str] | None = None,
) -> None:
    """Creates a suspended RayCluster: KubeRay starts no pods for it."""
    spec = cluster_spec(cluster)
    spec["headGroupSpec"]["template"]["spec"]["containers"][0]["image"] = cluster.image
    body = {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": name, "labels": labels, "annotations": annotations or {}},
        "spec": {**spec, "suspend": True},
    }
    cluster.custom.create_namespaced_custom_object("ray.io", "v1", namespace, "rayclusters", body)


def cluster_spec(cluster: Cluster, shared: Path | None = None) -> dict[str, Any]:
    """Returns the spec of a head that starts fast, without the image.

    A `shared` folder of this machine is mounted at its own path.
    """
    spec = manifests.ray_cluster_spec(cluster.image)
    pod = spec["headGroupSpec"]["template"]["spec"]
    pod["containers"][0].pop("image")
    if shared is not None:
        pod["volumes"] = [{"name": "shared", "hostPath": {"path": str(shared)}}]
        mount = {"name": "shared", "mountPath": str(shared)}
        pod["containers"][0]["volumeMounts"] = [mount]
    return spec


def names(cluster: Cluster, namespace: str, plural: str) -> list[str]:
    """Returns the names of KubeRay's objects in a namespace, without those being deleted.

    If the environment names this session's deployment, objects of others are left out.
    """
    found = cluster.custom.list_namespaced_custom_object("ray.io", "v1", namespace, plural)
    metadata = [item["metadata"] for item in found["items"] if _is_ours(item["metadata"])]
    return sorted(each["name"] for each in metadata if "deletionTimestamp" not in each)


def _is_ours(metadata: dict[str, Any]) -> bool:
    ours = os.environ.get("DAGSTER_CLOUD_DEPLOYMENT_NAME")
    owner = (metadata.get("labels") or {}).get("dagster-ray/deployment")
    return ours is None or owner in (ours, None)
