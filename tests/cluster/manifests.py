"""Manifests of small pods, RayClusters and RayJobs."""

from typing import Any

# KubeRay's default probes begin after ten seconds, which would delay each test.
FAST_PROBE = {
    "httpGet": {"path": "/api/healthz", "port": 52365},
    "periodSeconds": 1,
    "failureThreshold": 120,
}


def pod(name: str, image: str, script: str, **more: Any) -> dict[str, Any]:
    """Returns a pod with one container that runs a shell script."""
    container = {"name": "main", "image": image, "command": ["bash", "-c", script]}
    container |= more.pop("container", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container], "restartPolicy": "Never", **more},
    }


def ray_pod(name: str, image: str) -> dict[str, Any]:
    resources = {"cpu": "1", "memory": "2Gi"}
    container = {
        "name": name,
        "image": image,
        "resources": {"limits": resources, "requests": resources},
        "readinessProbe": FAST_PROBE,
    }
    return {"spec": {"containers": [container]}}


def ray_cluster_spec(image: str, workers: int = 0) -> dict[str, Any]:
    head = {"rayStartParams": {}, "template": ray_pod("ray-head", image)}
    spec: dict[str, Any] = {"rayVersion": "2.60.0", "headGroupSpec": head}
    if workers:
        group = {
            "groupName": "workers",
            "replicas": workers,
            "minReplicas": workers,
            "maxReplicas": workers,
            "rayStartParams": {},
            "template": ray_pod("ray-worker", image),
        }
        spec["workerGroupSpecs"] = [group]
    return spec


def ray_cluster(name: str, image: str, workers: int = 0) -> dict[str, Any]:
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": name},
        "spec": ray_cluster_spec(image, workers),
    }


def ray_job(name: str, image: str, entrypoint: str) -> dict[str, Any]:
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": name},
        "spec": {
            "entrypoint": entrypoint,
            "shutdownAfterJobFinishes": True,
            "rayClusterSpec": ray_cluster_spec(image),
        },
    }
