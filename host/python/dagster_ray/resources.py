"""The lifecycle of a Ray cluster as a Dagster resource, independent of the backend."""

import logging
import uuid
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr

from dagster_ray import ray_access
from dagster_ray.address import CLIENT_PORT, DASHBOARD_PORT
from dagster_ray.configs import Lifecycle, RayDataExecutionOptions, run_tags
from dagster_ray.dagster_typing import Resource
from dagster_ray.env_selectors import resolved_or_none
from dagster_ray.instance_policy import check_resource
from dagster_ray.ray_connection import CONNECT_SECONDS, get_current_job_id
from dagster_ray.types import AnyDagsterContext

_TRACING = {"RAY_PROFILING": "1", "RAY_task_events_report_interval_ms": "0"}


class RayResource(Resource, ABC):
    """A Ray cluster that a step uses. Use it as an annotation that accepts every backend."""

    lifecycle: Lifecycle = Field(default_factory=Lifecycle)
    timeout: float = Field(default=600.0, description="Seconds to wait for the cluster.")
    ray_init_options: dict[str, Any] = Field(
        default_factory=dict, description="Arguments of `ray.init`. Values may be an `EnvVar`."
    )
    data_execution_options: RayDataExecutionOptions | None = Field(
        default=None, description="Settings of `ray.data`, applied after connecting."
    )
    redis_port: int = Field(default=CLIENT_PORT, description="The port of Ray Client.")
    dashboard_port: int = Field(default=DASHBOARD_PORT, description="The port of the dashboard.")
    env_vars: dict[str, str] | None = Field(
        default_factory=dict, description="Environment variables for every process on Ray."
    )
    enable_tracing: bool = Field(default=False, description="Record a timeline of tasks.")
    enable_actor_task_logging: bool = Field(default=False, description="Log tasks of actors.")
    enable_debug_post_mortem: bool = Field(
        default=False, description="Start the debugger where a task fails."
    )
    enable_legacy_debugger: bool = Field(default=False, description="Use Ray's legacy debugger.")

    _name: str | None = PrivateAttr(default=None)
    _host: str | None = PrivateAttr(default=None)
    _context: Any = PrivateAttr(default=None)
    _creation_verb: str = PrivateAttr(default="Created")
    # Whether the policy allows the fields to who chose them.
    _is_checked: bool = PrivateAttr(default=False)
    _resource_uid: str = PrivateAttr(default_factory=lambda: uuid.uuid4().hex[:8])

    @property
    def resource_uid(self) -> str:
        """An id that distinguishes this resource from the other resources of the same run."""
        return self._resource_uid

    @property
    def context(self) -> Any:
        """The context that `ray.init` returned."""
        if self._context is None:
            raise RuntimeError(f"{self.display_name} is not connected: call `connect` first")
        return self._context

    @property
    @abstractmethod
    def host(self) -> str:
        """The host name or address of the Ray head."""

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
        """The Ray job id of this connection."""
        return get_current_job_id()

    @property
    def created(self) -> bool:
        """Whether the cluster was created."""
        return self._name is not None

    @property
    def ready(self) -> bool:
        """Whether the cluster can be used."""
        return self._host is not None

    @property
    def connected(self) -> bool:
        """Whether this process is connected to the cluster."""
        return self._context is not None

    @contextmanager
    def yield_for_execution(
        self, context: dg.InitResourceContext
    ) -> Generator["RayResource", None, None]:
        check_resource(context, self)
        self._is_checked = True
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
        """Creates the cluster. A subclass for an existing cluster need not override it."""

    def wait(self, context: AnyDagsterContext) -> None:
        """Waits until the cluster can be used."""

    def connect(self, context: AnyDagsterContext) -> Any:
        """Connects this process to the cluster, and returns Ray's context."""
        self._context = self._init_ray(self._init_options())
        if self.data_execution_options is not None:
            self.data_execution_options.apply()
        return self._context

    def delete(self, context: AnyDagsterContext) -> bool | None:
        """Deletes the cluster. Returns `False` if it did not exist."""

    def on_create(self, context: AnyDagsterContext) -> None:
        """Called after the cluster was created."""
        self._log(context).info(f"{self._creation_verb} {self.display_name}.")

    def on_ready(self, context: AnyDagsterContext) -> None:
        """Called when the cluster can be used."""

    def on_connect(self, context: AnyDagsterContext) -> None:
        """Called after this process connected to the cluster."""
        self._log(context).info(f"Connected to {self.display_name}.")

    def on_cleanup(self, context: AnyDagsterContext, *, deleted: bool) -> None:
        """Called at the end of `cleanup`, also after a failure."""
        if deleted:
            policy = self.lifecycle.cleanup
            self._log(context).info(
                f'Deleted {self.display_name} according to cleanup policy "{policy}"'
            )

    def cleanup(self, context: AnyDagsterContext, exception: BaseException | None) -> None:
        """Disconnects, and deletes the cluster if the lifecycle's cleanup policy says so."""
        try:
            if self._context is not None:
                self._disconnect()
        finally:
            self._context = None
            policy = self.lifecycle.cleanup
            due = policy == "always" or (policy == "on_exception" and exception is not None)
            deleted = self._delete(context) if due and self.created else False
            self.on_cleanup(context, deleted=deleted)

    def get_dagster_tags(self, context: AnyDagsterContext) -> dict[str, str]:
        """Returns the tags that identify the Dagster run of the cluster."""
        return run_tags(context.run)

    def get_env_vars_to_inject(self) -> dict[str, str]:
        """Returns the environment variables for every process on Ray."""
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
        """Deletes the cluster, and returns whether it existed."""
        return self.delete(context) is not False

    def _disconnect(self) -> None:
        self._context.disconnect()

    def _init_options(self) -> dict[str, Any]:
        options = resolved_or_none(self.ray_init_options)
        injected = self.get_env_vars_to_inject()
        runtime_env: dict[str, Any] = dict(options.get("runtime_env") or {})
        configured: Mapping[str, Any] = runtime_env.get("env_vars") or {}
        given = {k: v for k, v in configured.items() if v is not None}
        if given or injected:
            runtime_env["env_vars"] = given | injected
        else:
            runtime_env.pop("env_vars", None)
        if runtime_env:
            options["runtime_env"] = runtime_env
        return options

    def _init_ray(self, options: dict[str, Any]) -> Any:
        seconds = min(self.timeout, CONNECT_SECONDS)
        return ray_access.current().connect(lambda: self.ray_address, seconds=seconds, **options)

    @contextmanager
    def _explained(self, context: AnyDagsterContext, verb: str) -> Generator[None, None, None]:
        try:
            yield
        except BaseException:
            self._log(context).exception(f"Failed to {verb} {self.display_name}")
            raise

    def _log(self, context: AnyDagsterContext) -> logging.Logger:
        return context.log or dg.get_dagster_logger("dagster_ray")


# The name in earlier releases.
BaseRayResource = RayResource

__all__ = ["BaseRayResource", "RayResource"]
