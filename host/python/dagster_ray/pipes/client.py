"""Dagster Pipes on an existing Ray cluster, or on Ray on this machine."""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypedDict

from dagster import (
    PipesClient,
    PipesContextInjector,
    PipesEnvContextInjector,
    PipesMessageReader,
)
from typing_extensions import NotRequired, Unpack

from dagster_ray import ray_access
from dagster_ray.backend import Backend
from dagster_ray.configs import BackendConfig, BackendKeywords, run_tags
from dagster_ray.dagster_internals import PipesClientCompletedInvocation, TreatAsResourceParam
from dagster_ray.env_selectors import resolved_fields, without_selectors
from dagster_ray.pipes.message_reader import PipesRayJobMessageReader
from dagster_ray.pipes.session import Context, Package, Script, run_session
from dagster_ray.specs import local_directories

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

PIPES_LAUNCHED_EXTRAS_RAY_ADDRESS_KEY = "ray_address"
PIPES_LAUNCHED_EXTRAS_RAY_JOB_ID_KEY = "ray_job_id"
# Components find the scripts of a worker that has ended by this key of a job's metadata.
_WORKER_LABEL = "dagster-ray/worker"


class SubmitJobParams(TypedDict):
    """The parameters of Ray's ``JobSubmissionClient.submit_job``."""

    entrypoint: str
    runtime_env: NotRequired[dict[str, Any] | None]
    metadata: NotRequired[dict[str, str] | None]
    submission_id: NotRequired[str | None]
    entrypoint_num_cpus: NotRequired[int | float | None]
    entrypoint_num_gpus: NotRequired[int | float | None]
    entrypoint_memory: NotRequired[int | None]
    entrypoint_resources: NotRequired[dict[str, float] | None]
    entrypoint_label_selector: NotRequired[dict[str, str] | None]


class PipesRayJobClient(PipesClient, TreatAsResourceParam):
    """Runs scripts as Ray jobs, and passes their Pipes messages and output to Dagster.

    ``timeout`` is how many seconds a script may be pending: until Ray has the resources and the
    runtime environment for it, and runs it. Then the step fails, and the job is stopped unless
    ``forward_termination`` is false. Without a limit (``math.inf``), Ray's own remains.

    Any value may be ``dg.EnvVar("NAME")`` or ``{"env": "NAME"}``, also within mappings. The
    variable is read in the process that runs the step, when it runs the first script.

    ``create_cluster_if_needed`` and ``poll_interval`` are ignored, and exist for compatibility with
    `dagster-ray`: a backend starts what it needs, and nothing is polled.
    """

    def __init__(
        self,
        address: str | None = None,
        create_cluster_if_needed: bool = False,
        headers: Mapping[str, str] | None = None,
        verify: bool | str = True,
        cookies: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        context_injector: PipesContextInjector | None = None,
        message_reader: PipesMessageReader | None = None,
        forward_termination: bool = True,
        timeout: float = 600,
        poll_interval: float = 1,
        **backend: Unpack[BackendKeywords],
    ) -> None:
        self._metadata = dict(metadata or {})
        self._context_injector = context_injector or PipesEnvContextInjector()
        self._message_reader = message_reader or PipesRayJobMessageReader()
        self._forward_termination = forward_termination
        self._timeout = timeout
        self._given: dict[str, object] = dict(
            address=address, headers=headers, cookies=cookies, verify=verify, **backend
        )
        # Reports mistakes where the client is made. The process may not have the variables.
        BackendConfig.validated(**without_selectors(self._given))

    @classmethod
    def _is_dagster_maintained(cls) -> bool:
        return False

    @cached_property
    def backend(self) -> Backend:
        """The component that runs the scripts."""
        config = BackendConfig.validated(**self._given)
        return Backend(config, start_timeout=self._timeout)

    @cached_property
    def client(self) -> "JobSubmissionClient":
        """Ray's `JobSubmissionClient` for the same Ray."""
        return self.backend.submission_client()

    def get_dagster_tags(self, context: Context) -> dict[str, str]:
        """Returns the labels that identify the Dagster run on each job."""
        return run_tags(context.run)

    def run(  # type: ignore[override]
        self,
        *,
        context: Context,
        submit_job_params: SubmitJobParams,
        extras: dict[str, Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> PipesClientCompletedInvocation:
        """Runs a script until it ends. The arguments are not modified."""
        given = {**(extra or {}), **(extras or {})}
        return self.run_reading(context, submit_job_params, extras=given)

    def run_reading(
        self,
        context: Context,
        submit_job_params: SubmitJobParams,
        *,
        extras: dict[str, Any],
        message_reader: PipesMessageReader | None = None,
        package: Package | None = None,
    ) -> PipesClientCompletedInvocation:
        """Runs a script until it ends, with a reader for this script alone.

        `package` is uploaded too.
        """
        options = resolved_fields(submit_job_params, "submit_job_params.")
        if self._metadata:
            metadata = resolved_fields(self._metadata, "metadata.")
            options["metadata"] = {**(options.get("metadata") or {}), **metadata}

        def launched(script: Script) -> dict[str, Any]:
            return {
                PIPES_LAUNCHED_EXTRAS_RAY_JOB_ID_KEY: script.job["submission_id"],
                PIPES_LAUNCHED_EXTRAS_RAY_ADDRESS_KEY: self.backend.url,
            }

        return run_session(
            self.backend,
            context,
            context_injector=self._context_injector,
            message_reader=message_reader or self._message_reader,
            extras=extras,
            labels={**self.get_dagster_tags(context), **_worker()},
            options=options,
            directories=local_directories(options.get("runtime_env")),
            forward_termination=self._forward_termination,
            launched=launched,
            what="the Ray job",
            package=package,
        )


def _worker() -> dict[str, str]:
    """Returns the label with the Ray job of this process, if it belongs to one."""
    job = ray_access.ray_job()
    return {} if job is None else {_WORKER_LABEL: job}


__all__ = [
    "PIPES_LAUNCHED_EXTRAS_RAY_ADDRESS_KEY",
    "PIPES_LAUNCHED_EXTRAS_RAY_JOB_ID_KEY",
    "PipesRayJobClient",
    "PipesRayJobMessageReader",
    "SubmitJobParams",
]
