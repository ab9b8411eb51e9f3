"""Configuration classes of the launcher, the executor and the resources."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from dagster import Config, DagsterRun
from pydantic import Field, ValidationError, field_validator
from typing_extensions import Self, TypedDict

from dagster_ray import _library
from dagster_ray.cluster_defaults import IMAGE_TAG
from dagster_ray.contract import FieldError
from dagster_ray.dagster_typing import NestedConfig
from dagster_ray.dashboard import link_problem
from dagster_ray.default_namespace import DEFAULT_NAMESPACE
from dagster_ray.env_selectors import resolved_fields
from dagster_ray.errors import InvalidConfigError

_library.register()

USER_DEFINED_RAY_KEY = "dagster-ray/config"
DAGSTER_RAY_NAMESPACES_ENV_VAR = "DAGSTER_RAY_NAMESPACES"
DAGSTER_RAY_NAMESPACES_DEFAULT_VALUE = DEFAULT_NAMESPACE
DAGSTER_RAY_CLUSTER_EXPIRATION_SECONDS_ENV_VAR = "DAGSTER_RAY_CLUSTER_EXPIRATION_SECONDS"
DAGSTER_RAY_CLUSTER_EXPIRATION_SECONDS_DEFAULT_VALUE = "14400"


class Lifecycle(NestedConfig):
    """Which phases of a resource's lifecycle Dagster runs."""

    create: bool = Field(default=True, description="Create the resource when the step starts.")
    wait: bool = Field(default=True, description="Wait until the resource can be used.")
    connect: bool = Field(default=True, description="Connect the process to it with `ray.init`.")
    cleanup: Literal["never", "always", "on_exception"] = Field(
        default="always", description="When to delete the resource after the step."
    )


class _DashboardConfig(Config):
    """The address of Ray and the credentials for it."""

    address: str | None = Field(
        default=None,
        description=(
            "Ray's dashboard (`http://head:8265`), or `ray://head:10001`, `head:6379`, `auto`. "
            "RAY_API_SERVER_ADDRESS and RAY_ADDRESS take precedence. Without an address, Ray runs "
            "on this machine."
        ),
        examples=["http://ray-head:8265"],
        json_schema_extra={"x-environment": ["RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"]},
    )
    headers: dict[str, str] | None = Field(
        default=None,
        description=(
            "HTTP headers for each request to Ray. Default: RAY_JOB_HEADERS, a JSON object."
        ),
        examples=[{"X-Team": "data"}],
        json_schema_extra={"x-environment": ["RAY_JOB_HEADERS"]},
    )
    cookies: dict[str, str] | None = Field(
        default=None, description="HTTP cookies for each request to Ray."
    )
    verify: Any = Field(
        default=None,
        description=(
            "Whether to verify Ray's TLS certificate (true), or the path of a CA file or directory "
            "to trust. By default, the CAs of this machine and well-known ones are trusted, or "
            "those of REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, or SSL_CERT_FILE and SSL_CERT_DIR."
        ),
        examples=["/etc/ssl/ray-ca.pem"],
        json_schema_extra={
            "x-environment": [
                "REQUESTS_CA_BUNDLE",
                "CURL_CA_BUNDLE",
                "SSL_CERT_FILE",
                "SSL_CERT_DIR",
            ]
        },
    )

    @field_validator("verify")
    @classmethod
    def _check_verify(cls, verify: object) -> object:
        if verify is None or isinstance(verify, bool | str):
            return verify
        raise InvalidConfigError(
            f"verify: expected true, false or the path of a CA file, got {verify!r}",
            fields=[{"path": "verify", "problem": f"{verify!r}", "hint": "true, false, path"}],
        )


class RayJobSubmissionClientConfig(_DashboardConfig):
    """The address of Ray, the credentials for it, and the metadata of jobs."""

    metadata: dict[str, str] | None = Field(
        default=None, description="Metadata for each Ray job, in addition to the default metadata."
    )


class BackendConfig(_DashboardConfig):
    """Which component is called, and its connection to Ray and Kubernetes."""

    backend: str | None = Field(
        default=None,
        description="`existing`, `local`, `kuberay`, or the path of a component (`.wasm`).",
        examples=["kuberay"],
    )
    backend_config: dict[str, Any] | None = Field(
        default=None,
        description="The backend's own settings and options.",
        examples=[{"namespace": "ray"}],
    )
    backend_programs: dict[str, list[str]] | None = Field(
        default=None,
        description=(
            "The commands for the programs that the backend's manifest grants, each with its first "
            "arguments. Defaults: `python` is this interpreter, and `ray` is Ray's CLI in it."
        ),
    )
    kube_config: str | None = Field(
        default=None,
        description=(
            "The kubeconfig of a backend on Kubernetes. Default: KUBECONFIG, ~/.kube/config, or "
            "the service account of this pod."
        ),
        examples=["/etc/kube/config"],
        json_schema_extra={"x-environment": ["KUBECONFIG"]},
    )
    kube_context: str | None = Field(
        default=None, description="The context of the kubeconfig. Default: the current context."
    )
    backend_grants: dict[str, Any] | None = Field(
        default=None,
        description=(
            "Restricts the backend's grants and limits, in the form of its manifest: "
            "`{grants: {http: [address]}, limits: {memory_mib: 32}}`. With `grants`, the backend "
            "may use only what both this value and the manifest allow. It cannot add a grant. "
            "`manifest_sha256` pins the manifest: with another one, the backend is not loaded."
        ),
    )
    backend_sha256: str | None = Field(
        default=None,
        description="The sha256 of the backend's file. A file with another one is not loaded.",
    )
    dashboard_link: str | None = Field(
        default=None,
        description=(
            "The URL of a job's page for a browser, which Dagster shows as a link. It may contain "
            "`{job}`, the job's submission ID, and on KubeRay `{namespace}` and `{cluster}` or "
            "`{rayjob}`. A job without one of these values has no link. Default: the address of "
            "Ray."
        ),
        examples=["https://ray.example.org/{namespace}/{cluster}/#/jobs/{job}"],
    )
    unreachable_timeout: float | None = Field(
        default=None,
        description=(
            "Seconds that Ray may be unreachable before its jobs count as lost (default: 600). "
            "`backend_config.patience` has the other limits."
        ),
    )

    @field_validator("dashboard_link")
    @classmethod
    def _check_dashboard_link(cls, template: str | None) -> str | None:
        problem = template and link_problem(template)
        if problem:
            hint = "write a URL such as https://ray.example.org/#/jobs/{job}"
            raise InvalidConfigError(
                f"dashboard_link: {template!r}: {problem}; {hint}",
                fields=[{"path": "dashboard_link", "problem": problem, "hint": hint}],
            )
        return template

    @field_validator("backend_programs", mode="before")
    @classmethod
    def _check_programs(cls, programs: object) -> object:
        if isinstance(programs, Mapping):
            for name, command in cast("Mapping[object, object]", programs).items():
                _check_command(f"backend_programs.{name}", command)
        return cast(object, programs)

    @classmethod
    def select(cls, values: Mapping[str, object]) -> Self:
        """Reads the fields of this class from a flat configuration that may have other fields."""
        known = {key: value for key, value in values.items() if key in cls.model_fields}
        return cls.validated(**known)

    @classmethod
    def validated(cls, **values: object) -> Self:
        """Returns a configuration with these fields. A field that is `None` is not set.

        `dg.EnvVar("NAME")` and `{"env": "NAME"}` are replaced by the value of the variable. Raises
        `InvalidConfigError` for an invalid value and for a variable that is not set, and
        `TypeError` for an unknown field.
        """
        unknown = sorted(values.keys() - cls.model_fields.keys())
        if unknown:
            raise TypeError(f"unexpected arguments: {', '.join(unknown)}")
        given = resolved_fields({key: value for key, value in values.items() if value is not None})
        try:
            return cls(**given)
        except ValidationError as error:
            # The text names the type only, because the value may be a credential.
            fields = [
                _field_error(found["loc"], f"{found['msg']}, got {type(found['input']).__name__}")
                for found in error.errors()
            ]
            problems = "; ".join(f"{one['path']}: {one['problem']}" for one in fields)
            raise InvalidConfigError(problems, fields=fields) from error


def described(field: str) -> str:
    """Returns the description of a field of `BackendConfig`, for other classes with that field."""
    return BackendConfig.model_fields[field].description or ""


class BackendKeywords(TypedDict, total=False):
    """The fields of `BackendConfig` that are keyword arguments only, for constructors."""

    backend: str | None
    backend_config: Mapping[str, object] | None
    backend_programs: Mapping[str, Sequence[str]] | None
    kube_config: str | None
    kube_context: str | None
    backend_grants: Mapping[str, object] | None
    backend_sha256: str | None
    dashboard_link: str | None
    unreachable_timeout: float | None


class RayExecutionConfig(Config):
    """Options of a Ray job. The tag `dagster-ray/config` overrides each field."""

    enabled: bool | None = Field(
        default=None,
        description=(
            "Whether Ray executes the run or step (default: true). With false, a run uses "
            "Dagster's default run launcher, and a step runs in a subprocess of the run worker."
        ),
    )
    isolation: str | None = Field(
        default=None,
        description=(
            "What executes a step: `job` (default), a Ray job of its own, or `task`, a Ray task of "
            "the run's own Ray job, which starts in milliseconds."
        ),
    )
    process: str | None = Field(
        default=None,
        description=(
            "The process of a step with `isolation: task`: `warm` (default), which other steps of "
            "the run may have used, or `fresh`. A step with GPUs always has a fresh one."
        ),
    )
    runtime_env: dict[str, Any] | None = Field(
        default=None,
        description=(
            "Ray runtime environment. A local `working_dir` and `py_modules` are uploaded. The "
            "files that `pip`, `uv` (requirements.txt) and `conda` (env.yml) name are read here."
        ),
        examples=[{"pip": ["polars"]}],
    )
    env_vars: list[str] | None = Field(
        default=None,
        description="Environment variables: `KEY=VALUE`, or `KEY` for its value in this process.",
        examples=[["AWS_REGION", "STAGE=prod"]],
    )
    num_cpus: float | None = Field(
        default=None, description="CPUs for the job's entrypoint (default: 0) or task (default: 1)."
    )
    num_gpus: float | None = Field(default=None, description="GPUs for the job's entrypoint.")
    memory: int | None = Field(default=None, description="Bytes for the job's entrypoint.")
    resources: dict[str, float] | None = Field(
        default=None, description="Custom resources for the job's entrypoint."
    )
    label_selector: dict[str, str] | None = Field(
        default=None, description="Labels that the node must have (not with RayJobs)."
    )

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> "RayExecutionConfig":
        """Reads the tag `dagster-ray/config`. Without the tag, no field is set."""
        if USER_DEFINED_RAY_KEY not in tags:
            return cls()
        return cls(**json.loads(tags[USER_DEFINED_RAY_KEY]))


class RayLauncherConfig(RayExecutionConfig, RayJobSubmissionClientConfig, BackendConfig):
    """The configuration of the run launcher."""


class RayExecutorConfig(RayLauncherConfig):
    """The configuration of the executor."""

    inherit_job_submission_client_from_ray_run_launcher: bool | None = Field(
        default=None,
        description=(
            "Whether to use the backend and connection of the instance's RayRunLauncher (default: "
            "true, unless `backend` is set)."
        ),
    )


class ExecutionOptionsConfig(NestedConfig):
    """Resource limits of a `ray.data` execution."""

    cpu: int | None = Field(default=None, description="CPUs. Default: `cpu_limit`.")
    gpu: int | None = Field(default=None, description="GPUs. Default: `gpu_limit`.")
    object_store_memory: int | None = Field(
        default=None, description="Bytes in Ray's object store. Default: Ray's own limit."
    )


class RayDataExecutionOptions(NestedConfig):
    """Settings of `ray.data` for the process that drives it."""

    execution_options: ExecutionOptionsConfig = Field(
        default_factory=ExecutionOptionsConfig, description="The limits of one execution."
    )
    cpu_limit: int = Field(
        default=5000, description="The CPUs, unless `execution_options` has them."
    )
    gpu_limit: int = Field(default=0, description="The GPUs, unless `execution_options` has them.")
    verbose_progress: bool = Field(
        default=True, description="Whether each operator has a progress bar."
    )
    use_polars: bool = Field(default=True, description="Whether Ray Data sorts with Polars.")

    def apply(self) -> None:
        """Applies the settings to this process's `DataContext`."""
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
    """Returns the Dagster schema of a configuration, whose fields may also be nested in `ray:`."""
    import dagster as dg

    fields = dict(config.to_fields_dict())
    nested = dg.Field(dg.Shape(fields), is_required=False, description="The same fields, nested.")
    return {**fields, "ray": nested}


def flatten(value: Mapping[str, Any]) -> dict[str, Any]:
    """Merges the flat and the nested fields, without those that are not set."""
    flat = {key: entry for key, entry in value.items() if key != "ray" and entry is not None}
    inner: Mapping[str, Any] = value.get("ray") or {}
    nested = {key: entry for key, entry in inner.items() if entry is not None}
    twice = sorted(key for key in nested if key in flat and flat[key] != nested[key])
    if twice:
        names = ", ".join(twice)
        raise InvalidConfigError(
            f"{names}: given both at the top level and in `ray:`, with different values; "
            "give each field once",
            fields=[
                {"path": f"ray.{key}", "problem": "also given at the top", "hint": "remove one"}
                for key in twice
            ],
        )
    return {**flat, **nested}


def image(run: DagsterRun | None) -> str | None:
    """Returns the image of a run: that of its tag, or else that of its code location."""
    if run is None:
        return None
    origin = run.job_code_origin
    return run.tags.get(IMAGE_TAG) or (origin and origin.repository_origin.container_image) or None


def image_tag(run: DagsterRun) -> dict[str, str]:
    """Returns the tag with the image of a run, if the run has one."""
    found = image(run)
    return {} if found is None else {IMAGE_TAG: found}


def run_tags(run: DagsterRun | None) -> dict[str, str]:
    """Returns the tags that identify a Dagster run on an object of Ray or Kubernetes."""
    if run is None:
        return {}
    tags = {"dagster/run-id": run.run_id, "dagster/job": run.job_name}
    # Dagster 1.9 has no `dagster_execution_info`.
    return tags | dict(getattr(run, "dagster_execution_info", {}))


def _check_command(path: str, command: object) -> None:
    if isinstance(command, Sequence) and not isinstance(command, str):
        words = cast("Sequence[object]", command)
        if words and all(isinstance(word, str) for word in words):
            return
    hint, problem = "a list such as [/usr/bin/python3]", f"{command!r} is not a list of strings"
    raise InvalidConfigError(
        f"{path}: {problem}; write the program's file and its first arguments as {hint}",
        fields=[{"path": path, "problem": problem, "hint": hint}],
    )


def _field_error(location: Sequence[str | int], problem: str) -> FieldError:
    return {"path": ".".join(map(str, location)), "problem": problem, "hint": None}
