"""Dagster Pipes on Ray clusters that KubeRay creates for the script."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, cast

import yaml
from dagster import (
    PipesClient,
    PipesContextInjector,
    PipesEnvContextInjector,
    PipesMessageReader,
)

from dagster_ray.configs import run_tags
from dagster_ray.dagster_internals import PipesClientCompletedInvocation, TreatAsResourceParam
from dagster_ray.deployment import deployment_name
from dagster_ray.env_selectors import resolved_fields
from dagster_ray.errors import InvalidConfigError, UnsupportedError
from dagster_ray.kuberay.backend import DEFAULT_BACKEND, DashboardAccess, KubeRay
from dagster_ray.kuberay.client import RayJobClient
from dagster_ray.pipes.client import SubmitJobParams
from dagster_ray.pipes.message_reader import PipesRayJobMessageReader
from dagster_ray.pipes.session import Context, Script, run_session
from dagster_ray.specs import local_directories

# The second spelling appeared in the README of earlier releases.
_RUNTIME_ENV_KEYS = ("runtimeEnvYAML", "runtimeEnvYaml")


class PipesKubeRayJobClient(PipesClient, TreatAsResourceParam):
    """Runs scripts as RayJobs, and passes their Pipes messages and output to Dagster.

    ``timeout`` is how many seconds a script may be pending: until its cluster runs, and Ray runs
    the script. The time for which the RayJob is suspended, as in Kueue's queue, does not count.
    Then the step fails, and the RayJob is deleted unless ``forward_termination`` is false. Without
    a limit (``math.inf``), the RayJob's ``preRunningDeadlineSeconds`` remains.

    The host connects to the dashboard of the script's cluster, outside Kubernetes through a
    port-forward. With ``address``, it uses the URL of an ingress instead. ``headers`` and
    ``cookies`` are added to each request to the dashboard, and ``verify`` is as in
    :class:`PipesRayJobClient`. Arguments of ``run`` override those of the client. Any value may be
    ``dg.EnvVar("NAME")``, and outside ``ray_job`` also ``{"env": "NAME"}``.

    The arguments ``poll_interval`` and ``port_forward`` are ignored, and exist for compatibility
    with `dagster-ray`: nothing is polled.
    """

    def __init__(
        self,
        client: RayJobClient | None = None,
        context_injector: PipesContextInjector | None = None,
        message_reader: PipesMessageReader | None = None,
        forward_termination: bool = True,
        timeout: float = 600,
        poll_interval: float = 1,
        port_forward: bool = False,
        address: str | None = None,
        headers: Mapping[str, str] | None = None,
        verify: bool | str = True,
        cookies: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        *,
        backend: str = DEFAULT_BACKEND,
    ) -> None:
        if hasattr(type(self), "resolve_hostname"):
            raise UnsupportedError(
                f"{type(self).__name__}.resolve_hostname: is not called, because the host connects "
                "to the dashboard itself, outside Kubernetes through a port-forward. Remove it"
            )
        self.client = client or RayJobClient()
        self._context_injector = context_injector or PipesEnvContextInjector()
        self._message_reader = message_reader or PipesRayJobMessageReader()
        self._forward_termination = forward_termination
        self._timeout = timeout
        self._access = DashboardAccess(address, headers, cookies, verify)
        self._metadata = dict(metadata or {})
        self._name = backend

    @classmethod
    def _is_dagster_maintained(cls) -> bool:
        return False

    @cached_property
    def backend(self) -> KubeRay:
        """The component that runs the scripts."""
        return self._new_backend(self._access)

    def get_dagster_tags(self, context: Context) -> dict[str, str]:
        """Returns the labels that identify the Dagster run on each RayJob."""
        return {"dagster/deployment": deployment_name(), **run_tags(context.run)}

    def run(  # type: ignore[override]
        self,
        *,
        context: Context,
        submit_job_params: SubmitJobParams | None = None,
        ray_job: Mapping[str, object] | None = None,
        extras: dict[str, Any] | None = None,
        extra: dict[str, Any] | None = None,
        address: str | None = None,
        headers: Mapping[str, str] | None = None,
        verify: bool | str | None = None,
        cookies: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> PipesClientCompletedInvocation:
        """Runs a script until it ends. The arguments are not modified."""
        if submit_job_params is None and ray_job is None:
            raise InvalidConfigError(
                "submit_job_params, ray_job: neither is given; pass a RayJob manifest as ray_job, "
                "or the parameters of Ray's submit_job as submit_job_params"
            )
        given = {"address": address, "headers": headers, "cookies": cookies, "verify": verify}
        changes = {name: value for name, value in given.items() if value is not None}
        return self.run_reading(
            context,
            submit_job_params,
            ray_job=ray_job,
            extras={**(extra or {}), **(extras or {})},
            access=replace(self._access, **changes),
            metadata=metadata,
        )

    def run_reading(
        self,
        context: Context,
        submit_job_params: SubmitJobParams | None,
        *,
        ray_job: Mapping[str, object] | None = None,
        extras: dict[str, Any],
        access: DashboardAccess | None = None,
        metadata: Mapping[str, str] | None = None,
        message_reader: PipesMessageReader | None = None,
    ) -> PipesClientCompletedInvocation:
        """Runs a script until it ends, with access and a reader for this script alone."""
        options = _options(submit_job_params, ray_job)
        labels = {
            **self.get_dagster_tags(context),
            **resolved_fields({**self._metadata, **(metadata or {})}, "metadata."),
        }
        access = access or self._access
        backend = self.backend if access == self._access else self._new_backend(access)

        def launched(script: Script) -> dict[str, Any]:
            return {"ray_job_id": script.job["submission_id"]}

        return run_session(
            backend,
            context,
            context_injector=self._context_injector,
            message_reader=message_reader or self._message_reader,
            extras=extras,
            labels=labels,
            options=options,
            directories=local_directories(options.get("runtime_env")),
            forward_termination=self._forward_termination,
            launched=launched,
            what="the RayJob",
            parameters="parameters",
        )

    def _new_backend(self, access: DashboardAccess) -> KubeRay:
        return self.client.new_backend(self._name, start_timeout=self._timeout, access=access)


def _options(
    params: SubmitJobParams | None, ray_job: Mapping[str, object] | None
) -> dict[str, object]:
    options: dict[str, object] = {}
    if params is not None:
        options["parameters"] = resolved_fields(params, "submit_job_params.")
    if ray_job is None:
        return options
    manifest = options["ray_job"] = resolved_fields({"ray_job": ray_job})["ray_job"]
    spec: object = manifest.get("spec")
    if isinstance(spec, dict):
        spec = cast("dict[str, object]", spec)
        written = {key: spec.pop(key, None) for key in _RUNTIME_ENV_KEYS}
        found = [_parsed(key, value) for key, value in written.items() if value is not None]
        if len(found) == 2 and found[0] != found[1]:
            path = "ray_job.spec.runtimeEnvYaml"
            problem, hint = "differs from runtimeEnvYAML", "leave one of them out"
            raise InvalidConfigError(
                f"{path}: {problem}; {hint}",
                fields=[{"path": path, "problem": problem, "hint": hint}],
            )
        if found:
            options["runtime_env"] = found[0]
    return options


def _parsed(key: str, written: object) -> dict[str, object]:
    """Parses a runtime environment, because the component does not read YAML."""
    try:
        document: object = yaml.safe_load(written) if isinstance(written, str) else written
    except yaml.YAMLError as error:
        raise InvalidConfigError(f"ray_job.spec.{key}: is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise InvalidConfigError(
            f"ray_job.spec.{key}: is {type(document).__name__}, not a mapping; write for example "
            "'pip: [dagster-pipes]'"
        )
    return cast("dict[str, object]", document)
