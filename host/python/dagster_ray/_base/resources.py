"""The life of a Ray cluster as a Dagster resource, whatever the cluster is."""

import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr

from dagster_ray import simulation
from dagster_ray.configs import Lifecycle, RayDataExecutionOptions, run_tags
from dagster_ray.ray_connection import CONNECT_SECONDS, connect
from dagster_ray.types import AnyDagsterContext

_TRACING = {"RAY_PROFILING": "1", "RAY_task_events_report_interval_ms": "0"}


class RayResource(dg.ConfigurableResource, ABC):
    """A Ray cluster that a step uses. Annotate with it where any backend will do."""

    lifecycle: Lifecycle = Field(default_factory=Lifecycle)
    timeout: float = Field(default=600.0, description="Seconds to wait for the cluster.")
    ray_init_options: dict[str, Any] = Field(
        default_factory=dict, description="Arguments of `ray.init`. `EnvVar` may stand in them."
    )
    data_execution_options: RayDataExecutionOptions | None = Field(
        default=None, description="Settings of `ray.data`, applied after connecting."
    )
    redis_port: int = Field(default=10001, description="The port of Ray Client.")
    dashboard_port: int = Field(default=8265, description="The port of the dashboard.")
    env_vars: dict[str, str] | None = Field(
        default_factory=dict, description="Environment variables for every process on Ray."
    )
    enable_tracing: bool = Field(default=False, description="Record what tasks do, and when.")
    enable_actor_task_logging: bool = Field(default=False, description="Log tasks of actors.")
    enable_debug_post_mortem: bool = Field(
        default=False, description="Stop in the debugger where a task fails."
    )
    enable_legacy_debugger: bool = Field(default=False, description="Use Ray's legacy debugger.")

    _name: str | None = PrivateAttr(default=None)
    _host: str | None = PrivateAttr(default=None)
    _context: Any = PrivateAttr(default=None)
    _creation_verb: str = PrivateAttr(default="Created")
    _resource_uid: str = PrivateAttr(default_factory=lambda: uuid.uuid4().hex[:8])

    @property
    def resource_uid(self) -> str:
        """What tells this resource from every other of the same run."""
        return self._resource_uid

    @property
    def context(self) -> Any:
        """Ray's own context of the connection."""
        if self._context is None:
            raise RuntimeError(f"{self.display_name} is not connected: call `connect` first")
        return self._context

    @property
    @abstractmethod
    def host(self) -> str:
        """Where the cluster is reached."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The cluster's name."""

    @property
    def display_name(self) -> str:
        """The name that log lines use."""
        return self.name

    @property
    def ray_address(self) -> str | None:
        """The address for `ray.init`."""
        return f"ray://{self.host}:{self.redis_port}"

    @property
    def dashboard_url(self) -> str:
        """The URL of the dashboard."""
        return f"http://{self.host}:{self.dashboard_port}"

    @property
    def runtime_job_id(self) -> str:
        """Ray's id of the job that this connection is."""
        import ray

        return ray.get_runtime_context().get_job_id()

    @property
    def created(self) -> bool:
        """Whether the cluster was made."""
        return self._name is not None

    @property
    def ready(self) -> bool:
        """Whether the cluster can be used."""
        return self._host is not None

    @property
    def connected(self) -> bool:
        """Whether Ray is connected to it."""
        return self._context is not None

    @contextmanager
    def yield_for_execution(
        self, context: dg.InitResourceContext
    ) -> Generator["RayResource", None, None]:
        exception: BaseException | None = None
        try:
            if self.lifecycle.create:
                self._create(context)
                if self.lifecycle.wait:
                    self._wait(context)
                    if self.lifecycle.connect:
                        self._connect(context)
            yield self
        except BaseException as error:
            exception = error
            raise
        finally:
            self.cleanup(context, exception)

    def create(self, context: AnyDagsterContext) -> None:
        """Makes the cluster. A subclass whose cluster is there already has nothing to do."""

    def wait(self, context: AnyDagsterContext) -> None:
        """Waits until the cluster can be used."""

    def connect(self, context: AnyDagsterContext) -> Any:
        """Connects Ray to the cluster."""
        self._context = self._init_ray(self._init_options())
        if self.data_execution_options is not None:
            self.data_execution_options.apply()
        return self._context

    def delete(self, context: AnyDagsterContext) -> bool | None:
        """Removes the cluster. `False`: it was gone already."""

    def on_create(self, context: AnyDagsterContext) -> None:
        """Called once the cluster was made."""
        self._log(context).info(f"{self._creation_verb} {self.display_name}.")

    def on_ready(self, context: AnyDagsterContext) -> None:
        """Called once the cluster can be used."""

    def on_connect(self, context: AnyDagsterContext) -> None:
        """Called once Ray is connected."""
        self._log(context).info(f"Connected to {self.display_name}.")

    def on_cleanup(self, context: AnyDagsterContext, *, deleted: bool) -> None:
        """Called at the end, whatever happened before."""
        if deleted:
            policy = self.lifecycle.cleanup
            self._log(context).info(
                f'Deleted {self.display_name} according to cleanup policy "{policy}"'
            )

    def cleanup(self, context: AnyDagsterContext, exception: BaseException | None) -> None:
        """Disconnects, and removes the cluster where the lifecycle says so."""
        try:
            if self._context is not None:
                self._disconnect()
        finally:
            self._context = None
            policy = self.lifecycle.cleanup
            wanted = policy == "always" or (policy == "on_exception" and exception is not None)
            deleted = self._delete(context) if wanted and self.created else False
            self.on_cleanup(context, deleted=deleted)

    def get_dagster_tags(self, context: AnyDagsterContext) -> dict[str, str]:
        """What says where the cluster comes from."""
        return run_tags(context.run)

    def get_env_vars_to_inject(self) -> dict[str, str]:
        """Environment variables for every process on Ray."""
        injected: dict[str, str] = {}
        if self.enable_debug_post_mortem:
            injected["RAY_DEBUG_POST_MORTEM"] = "1"
        if self.enable_tracing:
            injected |= _TRACING
        if self.enable_actor_task_logging:
            injected["RAY_ENABLE_RECORD_ACTOR_TASK_LOGGING"] = "1"
        if self.enable_legacy_debugger:
            injected["RAY_DEBUG"] = "legacy"
        return injected | (self.env_vars or {})

    def _create(self, context: AnyDagsterContext) -> None:
        if not self.created:
            with self._explained(context, "create"):
                self.create(context)
            self.on_create(context)

    def _wait(self, context: AnyDagsterContext) -> None:
        self._create(context)
        if not self.ready:
            with self._explained(context, "wait for"):
                self.wait(context)
            self.on_ready(context)

    def _connect(self, context: AnyDagsterContext) -> None:
        self._wait(context)
        if not self.connected:
            with self._explained(context, "connect to"):
                self.connect(context)
            self.on_connect(context)

    def _delete(self, context: AnyDagsterContext) -> bool:
        """Removes the cluster, and tells whether there was anything to remove."""
        return self.delete(context) is not False

    def _disconnect(self) -> None:
        self._context.disconnect()

    def _init_options(self) -> dict[str, Any]:
        options = _resolved(self.ray_init_options)
        injected = self.get_env_vars_to_inject()
        runtime_env = dict(options.get("runtime_env") or {})
        given = {k: v for k, v in (runtime_env.get("env_vars") or {}).items() if v is not None}
        if given or injected:
            runtime_env["env_vars"] = given | injected
        else:
            runtime_env.pop("env_vars", None)
        if runtime_env:
            options["runtime_env"] = runtime_env
        return options

    def _init_ray(self, options: dict[str, Any]) -> Any:
        if simulation.directory() is not None:
            return simulation.Connection()
        return connect(self.ray_address, seconds=min(self.timeout, CONNECT_SECONDS), **options)

    @contextmanager
    def _explained(self, context: AnyDagsterContext, verb: str) -> Generator[None, None, None]:
        try:
            yield
        except BaseException:
            self._log(context).exception(f"Failed to {verb} {self.display_name}")
            raise

    def _log(self, context: AnyDagsterContext) -> Any:
        return context.log or dg.get_dagster_logger("dagster_ray")


def _resolved(value: Any) -> Any:
    """The value with environment variables in the places that name them, as a new object."""
    if isinstance(value, dg.EnvVar):
        return value.get_value()
    if isinstance(value, Mapping):
        if set(value) == {"env"}:
            return os.environ.get(str(value["env"]))
        return {key: _resolved(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_resolved(entry) for entry in value]
    return value


# The name of earlier releases.
BaseRayResource = RayResource
