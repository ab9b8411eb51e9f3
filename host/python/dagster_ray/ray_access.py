"""How this process reaches Ray: the configured Ray, or the simulation of a test.

`current` is the only function that chooses between the two. Call it for each use, because a test
starts its simulation after modules have been imported.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dagster_ray import ray_connection, simulation

# Ray sets this variable for the entrypoint of each submitted job.
_JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"

# How a process reaches the Kubernetes service of a Ray head.
ServiceRoute = Literal["cluster-dns", "port-forward", "this-machine"]


@dataclass(frozen=True)
class ReplacementBackend:
    """A built-in component that replaces the configured backend."""

    component: str
    settings: Mapping[str, str]
    url: str


@dataclass(frozen=True)
class ValueBackend:
    """A component that stores values, with its options and the operator's restriction."""

    backend: str | None
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    # `None` is a folder of the Dagster instance.
    directory: str | None = None
    grants: Mapping[str, object] | None = None
    sha256: str | None = None

    @property
    def is_in_ray(self) -> bool:
        """Whether the component stores values in Ray's object store."""
        return self.backend in (None, "object-store")

    @property
    def is_built_in(self) -> bool:
        """Whether the component belongs to this package."""
        return self.is_in_ray or self.backend == "files"


class RayAccess:
    """Access to the configured Ray."""

    # Seconds between two health checks of a step.
    health_check_seconds = 5
    # The backoff after the first failed check of an address, in seconds.
    check_backoff_seconds = 1.0
    # Whether `connect` connects this process to Ray, so that it has a Ray job id.
    connects_to_ray = True
    # Whether the values of a successful run are kept.
    keeps_run_values = False

    def connect(self, address: Callable[[], str | None], *, seconds: float, **options: Any) -> Any:
        """Connects this process to Ray, and returns the context of `ray.init`."""
        return ray_connection.connect(address(), seconds=seconds, **options)

    def replacement_backend(self) -> ReplacementBackend | None:
        """Returns the component to use instead of the configured backend."""
        return None

    def service_route(self, is_inside_cluster: Callable[[], bool]) -> ServiceRoute:
        """Returns how this process reaches a Kubernetes service.

        `is_inside_cluster` tells whether this process is a pod of the cluster. A pod of another
        cluster cannot resolve the names of services.
        """
        return "cluster-dns" if is_inside_cluster() else "port-forward"

    def value_backend(self, configured: ValueBackend) -> ValueBackend:
        """Returns the component to use for values."""
        return configured


class SimulatedRayAccess(RayAccess):
    """Access to the simulation in a directory."""

    # A simulated job ends at once, so each round checks it.
    health_check_seconds = 0
    # The waits of checks end a simulated outage.
    check_backoff_seconds = 0.0
    connects_to_ray = False
    # A test may load the values. They are removed with the simulation's directory.
    keeps_run_values = True

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def connect(self, address: Callable[[], str | None], *, seconds: float, **options: Any) -> Any:
        return simulation.Connection()

    def replacement_backend(self) -> ReplacementBackend | None:
        settings = {simulation.SETTING: self._directory}
        return ReplacementBackend("simulated", settings, simulation.URL)

    def service_route(self, is_inside_cluster: Callable[[], bool]) -> ServiceRoute:
        return "this-machine"

    def value_backend(self, configured: ValueBackend) -> ValueBackend:
        # `files` does not know the options of a third-party component. The configured restriction
        # and sha256 belong to the replaced component.
        options: Mapping[str, object] = configured.options if configured.is_built_in else {}
        return ValueBackend("files", options, str(Path(self._directory, "values")))


def current() -> RayAccess:
    """Returns the access of this process to Ray."""
    directory = simulation.directory()
    return RayAccess() if directory is None else SimulatedRayAccess(directory)


def in_kubernetes() -> bool:
    """Whether this process runs in a pod."""
    return "KUBERNETES_SERVICE_HOST" in os.environ


def in_ray_job() -> bool:
    """Whether this process or one of its ancestors is the entrypoint of a submitted Ray job."""
    return _JOB_CONFIG in os.environ


def ray_job() -> str | None:
    """Returns the submission id of the Ray job whose entrypoint is this process or an ancestor."""
    config: dict[str, Any] = json.loads(os.environ.get(_JOB_CONFIG, "{}"))
    metadata: dict[str, str] = config.get("metadata") or {}
    return metadata.get("job_submission_id")


__all__ = [
    "RayAccess",
    "ReplacementBackend",
    "ServiceRoute",
    "SimulatedRayAccess",
    "ValueBackend",
    "current",
    "in_kubernetes",
    "in_ray_job",
    "ray_job",
]
