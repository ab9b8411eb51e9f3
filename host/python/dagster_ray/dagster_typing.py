"""Types for parts of Dagster whose own annotations are incomplete.

Strict type checking rejects each use of a function with an unannotated parameter, and of a generic
type without its argument. This module has the casts for them.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast, get_origin

import dagster as dg

from dagster_ray import _library

if TYPE_CHECKING:
    from typing_extensions import Self

    from dagster_ray.dagster_internals import (
        ActiveExecution,
        IStepContext,
        PipesMessageHandler,
        StepFailureData,
    )

_library.register()

_dagster: Any = dg

if TYPE_CHECKING:

    class NestedConfig(dg.Config):
        """A configuration that is a field of another one or of a resource."""

        # Type checkers do not know the type of a member that `dg.Config` does not declare. They
        # look up `__get__` to get the type of a field.
        def __get__(self, obj: Any, owner: Any) -> Self: ...

    class PermissiveNestedConfig(dg.PermissiveConfig, NestedConfig):
        """A `NestedConfig` that may have fields that it does not declare."""

    class Resource(dg.ConfigurableResource[Any]):
        """A resource."""
else:
    NestedConfig = dg.Config
    PermissiveNestedConfig = dg.PermissiveConfig
    Resource = dg.ConfigurableResource


class _StepEvents(Protocol):
    def step_worker_starting(
        self, step_context: "IStepContext", message: str, metadata: Mapping[str, object]
    ) -> dg.DagsterEvent: ...

    def step_worker_started(
        self,
        log_manager: object,
        job_name: str,
        message: str,
        metadata: Mapping[str, object],
        step_key: str,
    ) -> dg.DagsterEvent: ...

    def step_failure_event(
        self, step_context: "IStepContext", step_failure_data: "StepFailureData"
    ) -> dg.DagsterEvent: ...


STEP_EVENTS = cast(_StepEvents, dg.DagsterEvent)
"""The constructors of the events of steps."""


def error_info(message: str, cls_name: str | None = None) -> Any:
    """Returns an error without a stack, in the form that events contain."""
    from dagster_ray import dagster_internals

    # Dagster 1.10 and later define the class in another package.
    module: Any = sys.modules[dagster_internals.serializable_error_info_from_exc_info.__module__]
    return module.SerializableErrorInfo(message, [], cls_name)


def sleep_interval(active: "ActiveExecution") -> float:
    """Returns the seconds until a step can be retried or can claim its pool, or 0."""
    return cast(float, cast(Any, active).sleep_interval())


class _Job(Protocol):
    def __call__(
        self, *, name: str, description: str
    ) -> Callable[[Callable[[], None]], dg.JobDefinition]: ...


class _Sensor(Protocol):
    def __call__(
        self,
        *,
        job: dg.JobDefinition,
        minimum_interval_seconds: int,
        default_status: dg.DefaultSensorStatus,
    ) -> Callable[
        [Callable[..., Iterator[dg.RunRequest | dg.SkipReason]]], dg.SensorDefinition
    ]: ...


job: _Job = _dagster.job
"""The decorator `dagster.job`."""

sensor: _Sensor = _dagster.sensor
"""The decorator `dagster.sensor`."""


class _MetadataTarget(Protocol):
    def add_output_metadata(self, metadata: Mapping[str, object]) -> None: ...

    def add_asset_metadata(
        self, metadata: Mapping[str, object], asset_key: dg.AssetKey | None
    ) -> None: ...


def add_output_metadata(context: dg.OutputContext, metadata: Mapping[str, object]) -> None:
    """Adds metadata to the output of a step."""
    cast(_MetadataTarget, context).add_output_metadata(metadata)


def takes_mapping(context: dg.InputContext) -> bool:
    """Returns whether the annotation of an input is a mapping, such as `dict[str, int]`."""
    annotation = context.dagster_type.typing_type
    cls = get_origin(annotation) or annotation
    return isinstance(cls, type) and issubclass(cls, Mapping)


def add_asset_metadata(
    context: dg.AssetExecutionContext, metadata: Mapping[str, object], asset_key: dg.AssetKey
) -> None:
    """Adds metadata to the materialization of an asset."""
    cast(_MetadataTarget, context).add_asset_metadata(metadata, asset_key=asset_key)


class ReportedResult(Protocol):
    """The fields of a `MaterializeResult` that a script has reported."""

    @property
    def asset_key(self) -> dg.AssetKey | None: ...
    @property
    def metadata(self) -> Mapping[str, object] | None: ...
    @property
    def data_version(self) -> dg.DataVersion | None: ...


class _Session(Protocol):
    def get_reported_results(self) -> Sequence[object]: ...


def reported_results(session: dg.PipesSession) -> Sequence[object]:
    """Returns the materializations and checks that a script has reported through Dagster Pipes."""
    return cast(_Session, session).get_reported_results()


def reported_materializations(session: dg.PipesSession) -> list[ReportedResult]:
    """Returns the materializations that a script has reported through Dagster Pipes."""
    results = reported_results(session)
    return [cast(ReportedResult, one) for one in results if isinstance(one, dg.MaterializeResult)]


def reported_check(result: object) -> dg.AssetCheckKey | None:
    """Returns the key of a check that a script has reported, or `None` for another result."""
    if not isinstance(result, dg.AssetCheckResult):
        return None
    key, name = cast(tuple[dg.AssetKey, str], (result.asset_key, result.check_name))
    return dg.AssetCheckKey(key, name)


def log_observation(
    handler: "PipesMessageHandler", asset_key: str, metadata: Mapping[str, Any]
) -> None:
    """Logs an observation of an asset, with the partition of the step that runs a script."""
    context: Any = cast(Any, handler)._context
    partition = context.partition_key if context.has_partition_key else None
    key = dg.AssetKey.from_escaped_user_string(asset_key)
    # The context of an asset passes events on to that of its op.
    op_context = getattr(context, "op_execution_context", context)
    op_context.log_event(dg.AssetObservation(key, metadata=metadata, partition=partition))


def decorated_function(context: dg.AssetExecutionContext) -> object:
    """Returns the function that a step executes."""
    compute = cast(Any, context.op_execution_context.op_def).compute_fn
    return getattr(compute, "decorated_fn", compute)


class PendingEvents:
    """The events that Dagster yields after the function of an asset, such as logged ones.

    Dagster takes a `MaterializeResult` or `AssetCheckResult` as if the function had yielded it.
    """

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._context = cast(Any, context.op_execution_context)

    def add(self, result: object) -> None:
        """Adds a result."""
        self._context._events.append(result)

    def remove_results(self) -> None:
        """Removes the results that have been added, and keeps other events."""
        results = (dg.MaterializeResult, dg.AssetCheckResult)
        self._context._events = [
            event for event in self._context._events if not isinstance(event, results)
        ]
