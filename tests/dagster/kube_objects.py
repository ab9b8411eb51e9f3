"""Roles, service accounts and RayCluster specs for tests on KubeRay."""

import os
from pathlib import Path
from typing import Any

import dagster as dg
import manifests
import yaml
from cluster import Cluster
from dagster_ray.deployment import deployment_id
from kubernetes import client, utils

DEPLOY = Path(__file__).parents[2] / "deploy/kubernetes"
# The namespace of the manifests.
_NAMESPACE = "dagster"


def deployed(folder: Path = DEPLOY, namespace: str = _NAMESPACE) -> list[dict[str, Any]]:
    """Returns the manifests of a folder with a kustomization, as `kubectl apply -k` applies them.

    Another `namespace` replaces that of the kustomization, as an edit of the files would.
    """
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert kustomization["namespace"] == _NAMESPACE
    assert kustomization.keys() == {"apiVersion", "kind", "namespace", "resources"}
    found: list[dict[str, Any]] = []
    for name in kustomization["resources"]:
        path = (folder / name).resolve()
        if path.is_dir():
            found += deployed(path, namespace)
            continue
        for document in yaml.safe_load_all(path.read_text()):
            document["metadata"]["namespace"] = namespace
            for subject in document.get("subjects", []):
                assert subject["namespace"] == _NAMESPACE
                subject["namespace"] = namespace
            found.append(document)
    return found


def apply(cluster: Cluster, manifests: list[dict[str, Any]]) -> None:
    """Creates the objects of manifests. The API server validates them strictly."""
    for manifest in manifests:
        utils.create_from_dict(
            cluster.api(),
            manifest,
            namespace=manifest["metadata"]["namespace"],
            field_validation="Strict",
        )


def role_rules(*, outside: bool, tokens: bool = False) -> list[dict[str, Any]]:
    """Returns the rules of deploy/kubernetes for a process outside the cluster or in a pod."""
    manifests = deployed(DEPLOY / "outside" if outside else DEPLOY)
    manifests += deployed(DEPLOY / "tokens") if tokens else []
    return [rule for one in manifests if one["kind"] == "Role" for rule in one["rules"]]


def allow(
    cluster: Cluster,
    namespace: str,
    rules: list[dict[str, Any]] | None = None,
    account: str = "default",
) -> None:
    """Binds a Role with these rules to a service account of the namespace.

    By default, the rules are those of deploy/kubernetes for a pod.
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
    return kubeconfig_of(cluster, namespace, account, folder)


def kubeconfig_of(cluster: Cluster, namespace: str, account: str, folder: Path) -> Path:
    """Returns a kubeconfig with a token of a service account."""
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
