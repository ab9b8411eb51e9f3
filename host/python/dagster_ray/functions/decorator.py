"""The decorator that runs the body of a function on Ray."""

import functools
import inspect
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from types import FunctionType
from typing import Any, ParamSpec, TypeVar, cast

import dagster as dg
from typing_extensions import Unpack

from dagster_ray.configs import BackendConfig
from dagster_ray.dagster_internals import PipesClientCompletedInvocation
from dagster_ray.env_selectors import resolved_fields, without_selectors
from dagster_ray.errors import ScriptFailedError, UnsupportedError
from dagster_ray.functions.call import (
    ENTRYPOINT,
    INLINE_ENTRYPOINT,
    Call,
    cloudpickle,
    is_context,
    packed,
)
from dagster_ray.functions.outcome import FunctionReader, RemoteTraceback
from dagster_ray.kuberay.pipes import PipesKubeRayJobClient
from dagster_ray.ops.clients import AnyClient, client_for, run_script
from dagster_ray.ops.config import RayJobConfig, RayJobOptions
from dagster_ray.pipes.session import Package
from dagster_ray.types import OpOrAssetExecutionContext as Context

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def ray_function(
    *, resource_key: str | None = None, **options: Unpack[RayJobOptions]
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Returns a decorator: within a step, the function's body runs as a Ray job.

    Write it below `@dg.asset` or `@dg.op`, or on a function that steps call. Arguments and the
    result travel as values, and the function's module as code: Ray needs none of Dagster's
    packages, and no access to Dagster's database. A parameter with the step's context receives a
    `RayFunctionContext`, whose `log` writes to Dagster. An exception is raised again in the step,
    with its traceback on Ray as its cause. If the step ends before, the Ray job is stopped.

    `options` are those of `ray_job_op`, such as `num_gpus`, `runtime_env` and `address`.
    `resource_key` names a resource with a Pipes client, in place of the options of the connection.
    Outside a step, as in unit tests, the function is an ordinary function.
    """
    _validate(options)

    def decorate(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        if not isinstance(function, FunctionType):
            kind = type(function).__name__
            raise UnsupportedError(
                f"ray_function decorates functions, not {kind}: write it below @dg.asset and @dg.op"
            )
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise UnsupportedError(
                f"ray_function: {function.__qualname__} is a generator; return a value instead"
            )
        remote = _RemoteFunction(function, resource_key, options)

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            context = _context(function, args, kwargs)
            if context is None:
                return function(*args, **kwargs)
            return remote.call(context, args, kwargs)

        return cast("Callable[Parameters, Result]", wrapper)

    return decorate


class _RemoteFunction:
    """A function with the options of its Ray job."""

    def __init__(
        self, function: FunctionType, resource_key: str | None, options: RayJobOptions
    ) -> None:
        self._function = function
        self._resource_key = resource_key
        self._options = options
        self._lock = threading.Lock()
        self._own_client: AnyClient | None = None

    def call(self, context: Context, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls the function on Ray, and returns its result or raises its exception."""
        call = packed(self._function, args, kwargs, context)
        reader = FunctionReader()
        client = self._client(context)
        failed: ScriptFailedError | None = None
        job: Mapping[str, Any] = {}
        with _untyped_result(context):
            try:
                job = self._run(client, context, call, reader).metadata
            except ScriptFailedError as error:
                failed = error
        outcome = reader.outcome()
        if outcome is None:
            # The process ended without an outcome, for example for lack of memory.
            raise failed or ScriptFailedError(
                f"{self._function.__qualname__}: the Ray job succeeded, but sent no result",
                state="succeeded",
            )
        if "error" in outcome:
            raise self._error(outcome) from RemoteTraceback(outcome["traceback"])
        if failed is not None:
            raise failed
        metadata: Mapping[str, Any] = outcome["metadata"]
        if _has_one_output(context):
            metadata = {**job, **metadata}
        if metadata:
            context.add_output_metadata(metadata)
        return outcome["value"]

    def _run(
        self, client: AnyClient, context: Context, call: Call, reader: FunctionReader
    ) -> PipesClientCompletedInvocation:
        # The process that runs the step has the variables.
        options = resolved_fields(self._options)
        config = RayJobConfig.validated(entrypoint=ENTRYPOINT, **options)
        if not isinstance(client, PipesKubeRayJobClient):
            with call.written() as package:
                return self._submit(client, context, config, reader, package)
        # No cluster exists yet to which the package could be uploaded.
        runtime_env: dict[str, Any] = dict(config.runtime_env or {})
        variables: Mapping[str, str] = runtime_env.get("env_vars") or {}
        runtime_env["env_vars"] = {**variables, **call.variables()}
        changes = {"entrypoint": INLINE_ENTRYPOINT, "runtime_env": runtime_env}
        return self._submit(client, context, config.model_copy(update=changes), reader, None)

    def _submit(
        self,
        client: AnyClient,
        context: Context,
        config: RayJobConfig,
        reader: FunctionReader,
        package: Package | None,
    ) -> PipesClientCompletedInvocation:
        return run_script(
            client,
            context,
            config.parameters(),
            ray_job=config.ray_job,
            extras=dict(config.extras or {}),
            message_reader=reader,
            package=package,
        )

    def _client(self, context: Context) -> AnyClient:
        if self._resource_key is not None:
            resources: Any = context.resources
            return getattr(resources, self._resource_key)
        with self._lock:
            if self._own_client is None:
                # Fails before anything is sent, if the process cannot send functions.
                cloudpickle()
                given = {
                    name: value
                    for name, value in self._options.items()
                    if name in BackendConfig.model_fields
                }
                self._own_client = client_for(given, timeout=self._options.get("timeout", 600.0))
            return self._own_client

    def __reduce__(self) -> Any:
        name = self._function.__qualname__
        raise TypeError(
            f"{name} is a ray_function, which a function on Ray cannot call: call the undecorated "
            "function there"
        )

    def _error(self, outcome: Mapping[str, Any]) -> BaseException:
        error: object = None
        if outcome["error"] is not None:
            # A class may exist on Ray only.
            with suppress(Exception):
                error = cloudpickle().loads(outcome["error"])
        if not isinstance(error, BaseException) or isinstance(
            error, KeyboardInterrupt | SystemExit
        ):
            # A class that cannot be sent, or one that would end the step's process.
            return ScriptFailedError(
                f"{self._function.__qualname__} failed on Ray: {outcome['description']}",
                state="failed",
            )
        return error


def _validate(options: RayJobOptions) -> None:
    """Reports mistakes where the function is defined. The process may not have the variables."""
    RayJobConfig.validated(entrypoint=ENTRYPOINT, **without_selectors(options))


def _context(
    function: FunctionType, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Context | None:
    """Returns the context of the step that calls a function, or `None` outside a step."""
    given = next((arg for arg in (*args, *kwargs.values()) if is_context(arg)), None)
    if given is not None:
        return _of_step(given)
    try:
        return _of_step(dg.AssetExecutionContext.get())
    except dg.DagsterInvariantViolationError:
        pass
    try:
        # An asset check has another class of context.
        return dg.OpExecutionContext.get()
    except dg.DagsterInvariantViolationError:
        pass
    if threading.current_thread() is not threading.main_thread():
        raise UnsupportedError(
            f"{function.__qualname__}: this thread does not know the step's context. Pass the "
            "context as an argument, or start the thread with contextvars.copy_context().run"
        )
    return None


def _of_step(context: Any) -> Context | None:
    """Returns the context for a Pipes session, or `None` for one that a unit test has built."""
    try:
        context.get_step_execution_context()
    except dg.DagsterError:
        return None
    if isinstance(context, dg.AssetExecutionContext) and context.has_assets_def:
        return context
    return getattr(context, "op_execution_context", context)


def _has_one_output(context: Context) -> bool:
    """Whether metadata can be added without naming an output."""
    outputs = getattr(context, "op_execution_context", context).op_def.output_defs
    return len(outputs) == 1 and not outputs[0].is_dynamic


@contextmanager
def _untyped_result(context: Context) -> Generator[None]:
    """Lets an asset return the value of a function, not the results of its Pipes session."""
    step: Any = context.get_step_execution_context()
    before: bool = step.requires_typed_event_stream
    try:
        yield
    finally:
        step._requires_typed_event_stream = before


__all__ = ["ray_function"]
