"""An asset that is a service: a materialization deploys it, and waits until it has the traffic."""

import dagster as dg
from dagster_ray.kuberay import KubeRayServe, ray_serve_asset

CONFIG = {
    "applications": [
        {
            "name": "greeter",
            "import_path": "greeter:build",
            "route_prefix": "/",
            "args": {"greeting": "hello"},
        }
    ]
}

greeter = ray_serve_asset("greeter", CONFIG)

defs = dg.Definitions(
    assets=[greeter],
    resources={
        "ray_serve": KubeRayServe(
            namespace="ray",
            image="ghcr.io/we/greeter:3",  # Ray with Serve, and greeter.py
            ray_service={"spec": {"rayClusterConfig": {"workerGroupSpecs": []}}},
        )
    },
)
