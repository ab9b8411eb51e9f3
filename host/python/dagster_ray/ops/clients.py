"""Chooses the Pipes client for the configuration of a backend."""

from collections.abc import Mapping
from typing import Any, TypeAlias, cast

from dagster import PipesMessageReader

from dagster_ray.configs import BackendKeywords
from dagster_ray.dagster_internals import PipesClientCompletedInvocation
from dagster_ray.errors import InvalidConfigError
from dagster_ray.kuberay.backend import DEFAULT_BACKEND as KUBERAY
from dagster_ray.kuberay.client import RayJobClient
from dagster_ray.kuberay.pipes import PipesKubeRayJobClient
from dagster_ray.pipes.client import PipesRayJobClient, SubmitJobParams
from dagster_ray.pipes.session import Package
from dagster_ray.types import OpOrAssetExecutionContext as Context

AnyClient: TypeAlias = PipesRayJobClient | PipesKubeRayJobClient

# How a process reaches a dashboard.
_ACCESS = ("address", "headers", "cookies", "verify")
_OF_RAY_JOBS = (
    *("kube_config", "kube_context", "backend_grants", "backend_sha256"),
    *("dashboard_link", "unreachable_timeout", "backend_config"),
)


def client_for(connection: Mapping[str, object], *, timeout: float) -> AnyClient:
    """Returns the client for the fields of a `BackendConfig`.

    With `backend: kuberay`, each script gets a Ray cluster of its own. `timeout` is how many
    seconds a script may be pending.
    """
    given: dict[str, Any] = {name: value for name, value in connection.items() if value is not None}
    if given.get("backend") != KUBERAY:
        return PipesRayJobClient(timeout=timeout, **given)
    access = {name: given[name] for name in _ACCESS if name in given}
    options = cast("BackendKeywords", {name: given[name] for name in _OF_RAY_JOBS if name in given})
    left_over = sorted(given.keys() - access.keys() - options.keys() - {"backend"})
    if left_over:
        problem, hint = "has no effect with `backend: kuberay`", "leave it out"
        raise InvalidConfigError(
            f"{', '.join(left_over)}: {problem}; {hint}",
            fields=[{"path": name, "problem": problem, "hint": hint} for name in left_over],
        )
    jobs = RayJobClient(**cast(Any, options))
    return PipesKubeRayJobClient(jobs, timeout=timeout, **access)


def run_script(
    client: AnyClient,
    context: Context,
    params: SubmitJobParams,
    *,
    ray_job: Mapping[str, object] | None,
    extras: dict[str, Any],
    message_reader: PipesMessageReader | None = None,
    package: Package | None = None,
) -> PipesClientCompletedInvocation:
    """Runs a script until it ends, with the client's own reader of messages or another one.

    `package` is uploaded. Only a client for an existing Ray can do so.
    """
    if isinstance(client, PipesKubeRayJobClient):
        return client.run_reading(
            context, params, ray_job=ray_job, extras=extras, message_reader=message_reader
        )
    if ray_job is not None:
        problem, hint = "is a manifest for KubeRay", "write `backend: kuberay`, or leave it out"
        raise InvalidConfigError(
            f"ray_job: {problem}; {hint}",
            fields=[{"path": "ray_job", "problem": problem, "hint": hint}],
        )
    return client.run_reading(
        context, params, extras=extras, message_reader=message_reader, package=package
    )


__all__ = ["KUBERAY", "AnyClient", "client_for", "run_script"]
