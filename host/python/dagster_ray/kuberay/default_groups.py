"""The parts of a RayCluster that a `RayClusterSpec` has by default.

Copy a part before you change it: a specification made later would have the change too.
"""

import copy
from typing import Any, TypeAlias

# A part of a Kubernetes object whose fields KubeRay defines.
Document: TypeAlias = dict[str, Any]


def _pod(container: str) -> Document:
    """Returns the spec of a pod, whose container keeps Ray's logs in a volume."""
    volume = "ray-logs"
    return {
        "imagePullSecrets": [],
        "containers": [
            {
                "volumeMounts": [{"mountPath": "/tmp/ray", "name": volume}],
                "name": container,
                "imagePullPolicy": "Always",
            }
        ],
        "volumes": [{"name": volume, "emptyDir": {}}],
        "affinity": {},
        "tolerations": [],
        "nodeSelector": {},
    }


_AUTOSCALER_RESOURCES = {"cpu": "50m", "memory": "0.1Gi"}

DEFAULT_AUTOSCALER_OPTIONS: Document = {
    "upscalingMode": "Default",
    "idleTimeoutSeconds": 60,
    "env": [],
    "envFrom": [],
    "resources": {
        "limits": dict(_AUTOSCALER_RESOURCES),
        "requests": dict(_AUTOSCALER_RESOURCES),
    },
}
"""Options of the autoscaler, which runs only with `enable_in_tree_autoscaling`."""

DEFAULT_HEAD_GROUP_SPEC: Document = {
    "serviceType": "ClusterIP",
    "rayStartParams": {},
    "template": {"spec": _pod("head")},
}
"""The head. Its image comes from the resource, or from the run tag `dagster/image`."""

DEFAULT_WORKER_GROUP_SPECS: list[Document] = [
    {
        "groupName": "workers",
        "replicas": 0,
        "minReplicas": 0,
        "maxReplicas": 1,
        "rayStartParams": {},
        "template": {"metadata": {"labels": {}, "annotations": {}}, "spec": _pod("worker")},
    }
]
"""One group, which the autoscaler can extend from no worker to one."""


def autoscaler_options() -> Document:
    """Returns a copy of `DEFAULT_AUTOSCALER_OPTIONS`."""
    return copy.deepcopy(DEFAULT_AUTOSCALER_OPTIONS)


def head_group_spec() -> Document:
    """Returns a copy of `DEFAULT_HEAD_GROUP_SPEC`."""
    return copy.deepcopy(DEFAULT_HEAD_GROUP_SPEC)


def worker_group_specs() -> list[Document]:
    """Returns a copy of `DEFAULT_WORKER_GROUP_SPECS`."""
    return copy.deepcopy(DEFAULT_WORKER_GROUP_SPECS)


__all__ = [
    "DEFAULT_AUTOSCALER_OPTIONS",
    "DEFAULT_HEAD_GROUP_SPEC",
    "DEFAULT_WORKER_GROUP_SPECS",
    "Document",
    "autoscaler_options",
    "head_group_spec",
    "worker_group_specs",
]
