"""Calls a function that Dagster has sent. This file is the program of a package in a Ray job.

It imports nothing of `dagster_ray` or `dagster`, which need not be installed there.
"""

import asyncio
import base64
import inspect
import json
import os
import sys
import traceback
import zlib
from collections.abc import Callable, Mapping
from typing import Any

try:
    import dagster_pipes
except ImportError:
    # A copy of the module is beside this file.
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    import dagster_pipes

PART = "dagster_ray_function"
"""The key of a message with a part of the result."""

MAX_RESULT_BYTES = 64 << 20
"""The size of the largest result, compressed. It passes through the output of the Ray job."""

_PART_BYTES = 36 << 10
_OF_PIPES = (
    "asset_key",
    "asset_keys",
    "code_version",
    "job_name",
    "log",
    "partition_key",
    "partition_key_range",
    "partition_time_window",
    "provenance",
    "report_custom_message",
    "retry_number",
    "run_id",
)
_OWN = ("add_output_metadata", "has_partition_key", "op_config", "step_key")


class RayFunctionContext:
    """What a function on Ray knows of its step, in place of Dagster's context."""

    def __init__(self, pipes: dagster_pipes.PipesContext, facts: Mapping[str, Any]) -> None:
        self._pipes = pipes
        self.op_config: Any = facts["op_config"]
        self.step_key: str = facts["step_key"]
        self.added_metadata: dict[str, Any] = {}

    @property
    def has_partition_key(self) -> bool:
        """Whether the step has partitions."""
        return self._pipes.is_partition_step

    def add_output_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Adds metadata to the asset or output of the step, once the function has returned."""
        self.added_metadata.update(metadata)

    def __getattr__(self, name: str) -> Any:
        if name in _OF_PIPES:
            return getattr(self._pipes, name)
        known = ", ".join(sorted([*_OF_PIPES, *_OWN]))
        raise AttributeError(
            f"context.{name} does not exist on Ray, which has {known}. Read it before the call, "
            "and pass the value as an argument"
        )


def main(read: Callable[[str], bytes]) -> int:
    """Calls the function, and sends its outcome. Returns the exit status.

    `read` returns the content of a file beside this one.
    """
    # The annotations of the function are incomplete.
    opened: Any = dagster_pipes
    with opened.open_dagster_pipes() as pipes:
        pickle = _cloudpickle()
        try:
            outcome = _call(pickle, pipes, read)
        except BaseException as error:
            outcome = _failure(pickle, error)
        outcome, data = _pickled(pickle, outcome)
        count = -(-len(data) // _PART_BYTES)
        for index in range(count):
            part = data[index * _PART_BYTES : (index + 1) * _PART_BYTES]
            text = base64.b64encode(part).decode()
            pipes.report_custom_message({PART: [index, count, text]})
    return 1 if "error" in outcome else 0


def _cloudpickle() -> Any:
    try:
        from ray import cloudpickle
    except ImportError:
        import cloudpickle  # pyright: ignore[reportMissingImports]
    return cloudpickle


def _call(
    pickle: Any, pipes: dagster_pipes.PipesContext, read: Callable[[str], bytes]
) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(read("call.json"))
    _check_python(facts["python"])
    context = RayFunctionContext(pipes, facts)
    try:
        function, args, kwargs = pickle.loads(zlib.decompress(read("call.pickle")))
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error}: the function or an argument needs it. Install it in Ray's environment, or "
            "name it in runtime_env, such as in pip or py_modules"
        ) from error
    args = [context if index in facts["context_args"] else arg for index, arg in enumerate(args)]
    kwargs = {key: context if key in facts["context_kwargs"] else kwargs[key] for key in kwargs}
    value = function(*args, **kwargs)
    if inspect.iscoroutine(value):
        value = asyncio.run(value)
    return {"value": value, "metadata": context.added_metadata}


def _check_python(sent: list[int]) -> None:
    running = list(sys.version_info[:2])
    if sent != running:
        raise RuntimeError(
            f"the function was sent by Python {_dotted(sent)}, and Ray runs {_dotted(running)}. "
            "Compiled code needs the same minor version: run Dagster and Ray with the same one"
        )


def _dotted(version: list[int]) -> str:
    return ".".join(map(str, version))


def _failure(pickle: Any, error: BaseException) -> dict[str, Any]:
    """Returns the outcome of a call that failed, with the pickled exception if it can be sent."""
    try:
        pickled = pickle.dumps(error, protocol=5)
        # Exceptions whose constructor has other arguments than the exception cannot be loaded.
        pickle.loads(pickled)
    except Exception:
        pickled = None
    frames = error.__traceback__
    # The first frames are those of this file.
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    lines = traceback.format_exception(type(error), error, frames)
    description = f"{type(error).__name__}: {error}"
    return {"error": pickled, "description": description, "traceback": "".join(lines)}


def _pickled(pickle: Any, outcome: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Returns an outcome and its bytes: a failure in place of a result that cannot be sent."""
    try:
        data = zlib.compress(pickle.dumps(outcome, protocol=5), 1)
    except Exception as problem:
        error = TypeError(
            f"the result of type {type(outcome['value']).__name__} cannot be pickled: {problem}. "
            "Return a value that can be, such as a path"
        )
        return _pickled(pickle, _failure(pickle, error))
    if len(data) > MAX_RESULT_BYTES and "error" not in outcome:
        error = ValueError(
            f"the result has {len(data)} bytes, compressed, of at most {MAX_RESULT_BYTES}. Write "
            "it to storage, and return its path"
        )
        return _pickled(pickle, _failure(pickle, error))
    return outcome, data


def _read_beside(name: str) -> bytes:
    # The loader also reads files in an archive.
    loader: Any = globals()["__loader__"]
    return loader.get_data(os.path.join(os.path.dirname(__file__), name))  # noqa: PTH118, PTH120


if __name__ == "__main__":
    sys.exit(main(_read_beside))
