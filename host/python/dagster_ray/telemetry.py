"""Spans and metrics of component calls, through OpenTelemetry's API.

Who configures a provider has imported the API. In other processes, nothing is imported and nothing
is recorded.
"""

import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from dagster_ray.errors import ComponentLoadError, ComponentTrap, DagsterRayError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Counter, Histogram
    from opentelemetry.trace import Span, Tracer

    from dagster_ray._native import Call, Component

_SCOPE = "dagster_ray"
_API = ("opentelemetry.trace", "opentelemetry.metrics")
# The fields of W3C Trace Context and Baggage. In the environment, their names are upper case
# (https://opentelemetry.io/docs/specs/otel/context/env-carriers/).
_FIELDS = ("traceparent", "tracestate", "baggage")
# The largest number of step keys in a span.
_MAX_STEPS = 16


class _Instruments:
    """The tracer and the instruments. The API passes them on to a provider that is set later."""

    def __init__(self) -> None:
        from opentelemetry import metrics, trace

        meter = metrics.get_meter(_SCOPE)
        self.tracer: Tracer = trace.get_tracer(_SCOPE)
        self.calls: Counter = meter.create_counter(
            "dagster_ray.calls", "{call}", "Calls of components"
        )
        self.traps: Counter = meter.create_counter(
            "dagster_ray.traps", "{call}", "Calls that crashed or exceeded a limit"
        )
        self.requests: Counter = meter.create_counter(
            "dagster_ray.requests", "{request}", "HTTP requests of components"
        )
        self.retries: Counter = meter.create_counter(
            "dagster_ray.retries", "{request}", "HTTP requests that repeat a failed one"
        )
        self.denials: Counter = meter.create_counter(
            "dagster_ray.denials", "{request}", "Requests that the permissions do not allow"
        )
        self.duration: Histogram = meter.create_histogram(
            "dagster_ray.call.duration", "s", "Duration of calls of components"
        )


@cache
def _create_instruments() -> _Instruments:
    return _Instruments()


def _instruments() -> _Instruments | None:
    """Returns the instruments, or `None` if no provider can have been configured."""
    return _create_instruments() if any(name in sys.modules for name in _API) else None


class CallObservation:
    """One call of a component, from its start to its end: a span and the metrics."""

    def __init__(
        self,
        instruments: _Instruments,
        component: "Component",
        export: str,
        arguments: Mapping[str, object],
    ) -> None:
        self._instruments = instruments
        self._component = component
        self._export = export
        self._began = perf_counter()
        self._span: Span = instruments.tracer.start_span(export, context=_parent())
        if self._span.is_recording():
            self._span.set_attributes(_work(arguments))

    def end(self, call: "Call | None", error: BaseException | None = None) -> None:
        """Records the call's outcome. `call` is `None` if the call did not start."""
        requests, retries, denials = call.usage() if call is not None else (0, 0, 0)
        outcome = "ok" if error is None else type(error).__name__
        name, digest = "", ""
        # The host would try again to load a component that it has refused.
        if not isinstance(error, ComponentLoadError):
            name, digest = _identity(self._component, self._span.is_recording())
        labels = {"dagster_ray.component": name, "dagster_ray.export": self._export}
        instruments = self._instruments
        instruments.duration.record(perf_counter() - self._began, labels)
        instruments.calls.add(1, {**labels, "dagster_ray.outcome": outcome})
        for counter, count in (
            (instruments.requests, requests),
            (instruments.retries, retries),
            (instruments.denials, denials),
            (instruments.traps, int(isinstance(error, ComponentTrap))),
        ):
            if count:
                counter.add(count, labels)
        if self._span.is_recording():
            self._span.set_attributes(
                {
                    **labels,
                    "dagster_ray.component.digest": digest,
                    "dagster_ray.outcome": outcome,
                    "dagster_ray.requests": requests,
                    "dagster_ray.retries": retries,
                    "dagster_ray.denials": denials,
                }
            )
            if error is not None:
                _set_error(self._span, error)
        self._span.end()


def observe(
    component: "Component", export: str, arguments: Mapping[str, object]
) -> CallObservation | None:
    """Begins to observe a call, if OpenTelemetry is used in this process."""
    instruments = _instruments()
    return instruments and CallObservation(instruments, component, export, arguments)


@contextmanager
def operation(name: str, run_id: str) -> Generator[None]:
    """Makes a span the parent of the calls in its body, and of the work that they launch."""
    instruments = _instruments()
    if instruments is None:
        yield
        return
    attributes = {"dagster.run_id": run_id}
    with instruments.tracer.start_as_current_span(name, _parent(), attributes=attributes):
        yield


def worker_trace() -> dict[str, str]:
    """Returns the environment variables that continue the current trace in a worker."""
    if not any(name in sys.modules for name in _API):
        return _carried()
    from opentelemetry import propagate

    carrier: dict[str, str] = {}
    propagate.inject(carrier, context=_parent())
    found = {name.upper(): carrier[name] for name in _FIELDS if name in carrier}
    return found or _carried()


def _carried() -> dict[str, str]:
    """Returns the variables with which this process's own parent named its trace."""
    return {name: os.environ[name] for name in map(str.upper, _FIELDS) if name in os.environ}


def _parent() -> "Context | None":
    """Returns the context of a new span: the current one, or that of the process's environment."""
    from opentelemetry import propagate, trace

    if trace.get_current_span().get_span_context().is_valid:
        return None
    carrier = {name.lower(): value for name, value in _carried().items()}
    return propagate.extract(carrier) if carrier else None


def _identity(component: "Component", is_recording: bool) -> tuple[str, str]:
    """Returns the name and digest of a component. One that was removed meanwhile has neither."""
    try:
        return component.name, component.digest if is_recording else ""
    except DagsterRayError:
        return "", ""


def _work(arguments: Mapping[str, object]) -> dict[str, Any]:
    """Returns the attributes that name the run and the steps of a call's arguments."""
    runs: dict[str, None] = {}
    steps: dict[str, None] = {}

    def collect(value: object) -> None:
        if isinstance(value, Mapping):
            fields = cast("Mapping[str, object]", value)
            for field, found in (("run_id", runs), ("step_key", steps)):
                name = fields.get(field)
                if isinstance(name, str):
                    found[name] = None
            for one in fields.values():
                collect(one)
        elif isinstance(value, list):
            for one in cast("list[object]", value):
                collect(one)

    collect(arguments)
    attributes: dict[str, Any] = {}
    if len(runs) == 1:
        attributes["dagster.run_id"] = next(iter(runs))
    if steps:
        attributes["dagster.step_keys"] = list(steps)[:_MAX_STEPS]
    return attributes


def _set_error(span: "Span", error: BaseException) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_status(Status(StatusCode.ERROR, str(error)))


__all__ = ["CallObservation", "observe", "operation", "worker_trace"]
