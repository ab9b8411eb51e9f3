"""Configuration classes: what a user may write, and what it means."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from dagster import Config, DagsterRun
from pydantic import Field

from dagster_ray import _library
from dagster_ray.errors import InvalidConfigError

_library.register()

USER_DEFINED_RAY_KEY = "dagster-ray/config"
DAGSTER_RAY_NAMESPACES_ENV_VAR = "DAGSTER_RAY_NAMESPACES"
DAGSTER_RAY_CLUSTER_EXPIRATION_SECONDS_ENV_VAR = "DAGSTER_RAY_CLUSTER_EXPIRATION_SECONDS"


class Lifecycle(Config):
    """Which parts of a resource's life Dagster takes care of."""

    create: bool = Field(default=True, description="Create it when the step starts.")
    wait: bool = Field(default=True, description="Wait until it can be used.")
    connect: bool = Field(default=True, description="Connect Ray to it.")
    cleanup: Literal["never", "always", "on_exception"] = Field(
        default="always", description="When to remove it after the step."
    )


class RayJobSubmissionClientConfig(Config):
    """Where Ray is, and how to be let in."""

    address: str | None = Field(
        default=None,
        description=(
            "Ray's dashboard (`http://head:8265`), or `ray://head:10001`, `head:6379`, `auto`. "
            "RAY_API_SERVER_ADDRESS and RAY_ADDRESS win over it. Without any, Ray runs on this "
            "machine."
        ),
    )
    metadata: dict[str, str] | None = Field(
        default=None, description="Metadata for each Ray job, beside what is set anyway."
    )
    headers: dict[str, str] | None = Field(
        default=None, description="HTTP headers for each request to Ray."
    )
    cookies: dict[str, str] | None = Field(
        default=None, description="HTTP cookies for each request to Ray."
    )
    verify: Any = Field(
        default=None,
        description="Whether to verify Ray's TLS certificate (true), or the path of a CA file.",
    )


class RayExecutionConfig(Config):
    """What a Ray job needs. The tag `dagster-ray/config` overrides it field by field."""

    enabled: bool | None = Field(
        default=None,
        description=(
            "Whether Ray executes it (true). What Ray does not, Dagster does: a run as without a "
            "run launcher, a step in a process beside the run's worker."
        ),
    )
    runtime_env: dict[str, Any] | None = Field(default=None, description="Ray runtime environment.")
    env_vars: list[str] | None = Field(
        default=None,
        description="Environment variables: `KEY=VALUE`, or `KEY` for the value that it has here.",
    )
    num_cpus: float | None = Field(default=None, description="CPUs for the job's entrypoint.")
    num_gpus: float | None = Field(default=None, description="GPUs for the job's entrypoint.")
    memory: int | None = Field(default=None, description="Bytes for the job's entrypoint.")
    resources: dict[str, float] | None = Field(
        default=None, description="Custom resources for the job's entrypoint."
    )

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> "RayExecutionConfig":
        """What the tag `dagster-ray/config` says, where there is one."""
        if USER_DEFINED_RAY_KEY not in tags:
            return cls()
        return cls(**json.loads(tags[USER_DEFINED_RAY_KEY]))


class RayLauncherConfig(RayExecutionConfig, RayJobSubmissionClientConfig):
    """The configuration of the run launcher."""

    backend: str | None = Field(
        default=None,
        description="`existing`, `local`, `kuberay`, or the path of a component (`.wasm`).",
    )
    backend_config: dict[str, Any] | None = Field(
        default=None, description="What the backend understands beyond the fields here."
    )
    backend_programs: dict[str, list[str]] | None = Field(
        default=None,
        description=(
            "The commands behind the programs that the backend's manifest grants it, each with the "
            "arguments that go first. `python` is this interpreter, and `ray` its Ray, unless they "
            "are named here."
        ),
    )
    kube_config: str | None = Field(
        default=None,
        description=(
            "The kubeconfig of a backend on Kubernetes. Without it: KUBECONFIG, ~/.kube/config, "
            "the service account of this pod."
        ),
    )
    kube_context: str | None = Field(
        default=None, description="A context of the kubeconfig. Without it, the current one."
    )
    backend_grants: dict[str, Any] | None = Field(
        default=None,
        description=(
            "What the backend may do at the most, in the form of its manifest: "
            "`{grants: {http: [address]}, limits: {memory_mib: 32}}`. Without `grants`, all that "
            "the manifest grants; with it, only what both allow. It cannot add anything."
        ),
    )
    backend_sha256: str | None = Field(
        default=None,
        description="The sha256 that the backend's file must have; any other is not loaded.",
    )
    unreachable_timeout: float | None = Field(
        default=None,
        description="Seconds for which Ray may stay unreachable before its jobs count as lost.",
    )


class RayExecutorConfig(RayLauncherConfig):
    """The configuration of the executor."""

    inherit_job_submission_client_from_ray_run_launcher: bool | None = Field(
        default=None,
        description=(
            "Whether to reach Ray as the instance's RayRunLauncher does (true, unless `backend` "
            "is given)."
        ),
    )


class ExecutionOptionsConfig(Config):
    """Limits of a `ray.data` execution."""

    cpu: int | None = None
    gpu: int | None = None
    object_store_memory: int | None = None


class RayDataExecutionOptions(Config):
    """Settings of `ray.data` for the process that drives it."""

    execution_options: ExecutionOptionsConfig = Field(default_factory=ExecutionOptionsConfig)
    cpu_limit: int = 5000
    gpu_limit: int = 0
    verbose_progress: bool = True
    use_polars: bool = True

    def apply(self) -> None:
        """Sets them in this process."""
        import ray.data

        context = ray.data.DataContext.get_current()
        limits = ray.data.ExecutionResources(
            cpu=self.execution_options.cpu or self.cpu_limit,
            gpu=self.execution_options.gpu or self.gpu_limit,
            object_store_memory=self.execution_options.object_store_memory,
        )
        context.execution_options.resource_limits = limits
        context.execution_options.verbose_progress = self.verbose_progress
        context.use_polars = self.use_polars


def schema(config: type[Config]) -> dict[str, Any]:
    """Dagster's schema for a configuration that may be written flat or below `ray:`."""
    import dagster as dg

    fields = dict(config.to_fields_dict())
    nested = dg.Field(
        dg.Shape(fields), is_required=False, description="The same fields, one level deeper."
    )
    return {**fields, "ray": nested}


def flatten(value: Mapping[str, Any]) -> dict[str, Any]:
    """Joins the flat and the nested form. What is not given is left out."""
    flat = {key: entry for key, entry in value.items() if key != "ray" and entry is not None}
    nested = {key: entry for key, entry in (value.get("ray") or {}).items() if entry is not None}
    twice = sorted(key for key in nested if key in flat and flat[key] != nested[key])
    if twice:
        names = ", ".join(twice)
        raise InvalidConfigError(
            f"{names}: given both at the top and below `ray:`, with different values; "
            "write each field in one place",
            fields=[
                {"path": f"ray.{key}", "problem": "also given at the top", "hint": "remove one"}
                for key in twice
            ],
        )
    return {**flat, **nested}


def run_tags(run: DagsterRun | None) -> dict[str, str]:
    """What says which run something on Ray belongs to."""
    if run is None:
        return {}
    tags = {"dagster/run-id": run.run_id, "dagster/job": run.job_name}
    # Dagster 1.9 does not have it yet.
    return tags | dict(getattr(run, "dagster_execution_info", {}))
