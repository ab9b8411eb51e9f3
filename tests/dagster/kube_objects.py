"""What runs and steps on KubeRay need in a namespace of a test."""

from pathlib import Path
from typing import Any

import manifests
from cluster import Cluster
from kubernetes import client

# What a run's worker asks of the API server for its steps.
RULES = [
    {
        "apiGroups": ["ray.io"],
        "resources": ["rayclusters", "rayjobs"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
    {"apiGroups": [""], "resources": ["pods", "events"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
]


def allow(cluster: Cluster, namespace: str) -> None:
    """Gives the namespace's own service account the rights that runs with steps need."""
    rbac: Any = client.RbacAuthorizationV1Api(cluster.api())
    metadata = {"name": "dagster-ray", "namespace": namespace}
    rbac.create_namespaced_role(namespace, {"metadata": metadata, "rules": RULES})
    rbac.create_namespaced_role_binding(
        namespace,
        {
            "metadata": metadata,
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": "dagster-ray",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
        },
    )


def cluster_spec(cluster: Cluster, shared: Path | None = None) -> dict[str, Any]:
    """A head that starts fast, with a folder of this machine at its own path."""
    spec = manifests.ray_cluster_spec(cluster.image)
    pod = spec["headGroupSpec"]["template"]["spec"]
    pod["containers"][0].pop("image")
    if shared is not None:
        pod["volumes"] = [{"name": "shared", "hostPath": {"path": str(shared)}}]
        mount = {"name": "shared", "mountPath": str(shared)}
        pod["containers"][0]["volumeMounts"] = [mount]
    return spec


def names(cluster: Cluster, namespace: str, plural: str) -> list[str]:
    """The names of KubeRay's objects in a namespace, without those that are going."""
    found = cluster.custom.list_namespaced_custom_object("ray.io", "v1", namespace, plural)
    metadata = [item["metadata"] for item in found["items"]]
    return sorted(each["name"] for each in metadata if "deletionTimestamp" not in each)
