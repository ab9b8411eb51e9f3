"""The options of a script that runs as a Ray job."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import Field

from dagster_ray.configs import BackendConfig, BackendKeywords, RayExecutionConfig
from dagster_ray.env_vars import resolve_env_vars_list
from dagster_ray.pipes.client import SubmitJobParams


def _described(field: str) -> str:
    return RayExecutionConfig.model_fields[field].description or ""


class RayJobConfig(BackendConfig):
    """The configuration of `ray_job_op`."""

    entrypoint: str = Field(description="The shell command of the Ray job: `python train.py`.")
    runtime_env: dict[str, Any] | None = Field(default=None, description=_described("runtime_env"))
    env_vars: list[str] | None = Field(default=None, description=_described("env_vars"))
    num_cpus: float | None = Field(default=None, description="CPUs for the entrypoint.")
    num_gpus: float | None = Field(default=None, description="GPUs for the entrypoint.")
    memory: int | None = Field(default=None, description="Bytes of memory for the entrypoint.")
    resources: dict[str, float] | None = Field(
        default=None, description="Custom resources for the entrypoint."
    )
    label_selector: dict[str, str] | None = Field(
        default=None, description="Labels that the entrypoint's node must have."
    )
    metadata: dict[str, str] | None = Field(
        default=None, description="Metadata of the Ray job, in addition to the default metadata."
    )
    submission_id: str | None = Field(
        default=None, description="The id of the Ray job. By default, one is generated."
    )
    ray_job: dict[str, Any] | None = Field(
        default=None, description="A RayJob manifest to complete, with `backend: kuberay`."
    )
    extras: dict[str, Any] | None = Field(
        default=None, description="Values that the script reads with `PipesContext.get_extra`."
    )
    timeout: float = Field(
        default=600.0, description="Seconds that the script may be pending. It may run for longer."
    )

    @property
    def connection(self) -> dict[str, object]:
        """The fields that name the backend and its connection."""
        return {name: getattr(self, name) for name in BackendConfig.model_fields}

    def parameters(self) -> SubmitJobParams:
        """Returns the parameters of Ray's `submit_job`."""
        runtime_env = self.runtime_env
        variables = resolve_env_vars_list(self.env_vars)
        if variables:
            own: Mapping[str, str] = (runtime_env or {}).get("env_vars") or {}
            runtime_env = {**(runtime_env or {}), "env_vars": {**own, **variables}}
        options = {
            "runtime_env": runtime_env,
            "metadata": self.metadata,
            "submission_id": self.submission_id,
            "entrypoint_num_cpus": self.num_cpus,
            "entrypoint_num_gpus": self.num_gpus,
            "entrypoint_memory": self.memory,
            "entrypoint_resources": self.resources,
            "entrypoint_label_selector": self.label_selector,
        }
        given = {name: value for name, value in options.items() if value is not None}
        return cast("SubmitJobParams", {"entrypoint": self.entrypoint, **given})


class RayJobOptions(BackendKeywords, total=False):
    """The fields of `RayJobConfig` except the entrypoint, for keyword arguments."""

    runtime_env: Mapping[str, object] | None
    env_vars: Sequence[str] | None
    num_cpus: float | None
    num_gpus: float | None
    memory: int | None
    resources: Mapping[str, float] | None
    label_selector: Mapping[str, str] | None
    metadata: Mapping[str, str] | None
    submission_id: str | None
    ray_job: Mapping[str, object] | None
    extras: Mapping[str, object] | None
    timeout: float
    address: str | None
    headers: Mapping[str, str] | None
    cookies: Mapping[str, str] | None
    verify: bool | str | None


__all__ = ["RayJobConfig", "RayJobOptions"]
