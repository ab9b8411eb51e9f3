"""Packs a call of a function into a package that a Ray job runs.

The package has the pickled function with its arguments, the program that calls it, and a copy of
`dagster_pipes`. Ray's nodes need none of Dagster's packages.
"""

import base64
import io
import json
import sys
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import dagster as dg
import dagster_pipes

from dagster_ray.errors import InvalidConfigError, SerializationError, UnsupportedError
from dagster_ray.pipes.session import Package
from dagster_ray.types import OpOrAssetExecutionContext as Context

PACKAGE = "dagster_ray_function"
"""The name of the package."""

ENTRYPOINT = f"python -m {PACKAGE}"
"""The command that runs a package that Ray has downloaded."""

_VARIABLE = "DAGSTER_RAY_FUNCTION"
_PROGRAM_VARIABLE = "DAGSTER_RAY_FUNCTION_PROGRAM"
_PROGRAM = f"""import base64, os, runpy, sys, tempfile
with tempfile.NamedTemporaryFile(suffix=".zip", delete=False) as file:
    file.write(base64.b64decode(os.environ.pop("{_VARIABLE}")))
sys.path.insert(0, file.name)
runpy.run_module("{PACKAGE}", run_name="__main__", alter_sys=True)
"""
INLINE_ENTRYPOINT = f"python -c 'import os; exec(os.environ[\"{_PROGRAM_VARIABLE}\"])'"
"""The command that runs a package in an environment variable."""

# Linux limits a variable to 128 KiB, and a Ray job has all of its variables in one. This leaves
# room for Pipes and for the variables of the user.
_MAX_INLINE_BYTES = 72 << 10

# cloudpickle's list of modules is one for the process.
_lock = threading.Lock()


@dataclass(frozen=True)
class Call:
    """A call of a function, pickled."""

    facts: Mapping[str, object]
    pickled: bytes

    @contextmanager
    def written(self) -> Generator[Package]:
        """Writes the package into a directory that exists within the context."""
        root = _root().name
        with tempfile.TemporaryDirectory(dir=root) as folder:
            package = Path(folder, PACKAGE)
            for name, content in self._files().items():
                file = package / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            yield Package(str(package), root)

    def variables(self) -> dict[str, str]:
        """Returns the environment variables with the package, for `INLINE_ENTRYPOINT`.

        Raises `InvalidConfigError` if the package is too large for them.
        """
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
            for name, content in self._files().items():
                opened.writestr(f"{PACKAGE}/{name}", content)
        text = base64.b64encode(archive.getvalue()).decode()
        if len(text) > _MAX_INLINE_BYTES:
            problem = (
                f"the function and its arguments have {len(text)} bytes, more than the "
                f"{_MAX_INLINE_BYTES} that a RayJob can carry"
            )
            hint = "write large arguments to storage, and pass their paths"
            raise InvalidConfigError(
                f"arguments: {problem}; {hint}",
                fields=[{"path": "arguments", "problem": problem, "hint": hint}],
            )
        return {_VARIABLE: text, _PROGRAM_VARIABLE: _PROGRAM}

    def _files(self) -> dict[str, bytes]:
        pipes = Path(dagster_pipes.__file__).read_bytes()
        return {
            "__init__.py": b"",
            "__main__.py": Path(__file__).with_name("on_ray.py").read_bytes(),
            "call.json": json.dumps(self.facts).encode(),
            "call.pickle": self.pickled,
            "dagster_pipes/__init__.py": pipes,
        }


def packed(
    function: FunctionType, args: Sequence[Any], kwargs: Mapping[str, Any], context: Context
) -> Call:
    """Pickles a call of a function. A context among the arguments is left out.

    The function and everything of its module travel as code. Other modules must exist on Ray.
    Raises `SerializationError` if an argument cannot be pickled.
    """
    facts = {
        "python": list(sys.version_info[:2]),
        "context_args": [index for index, arg in enumerate(args) if is_context(arg)],
        "context_kwargs": [key for key, arg in kwargs.items() if is_context(arg)],
        "op_config": _op_config(context),
        "step_key": context.get_step_execution_context().step.key,
    }
    plain = [None if is_context(arg) else arg for arg in args]
    named = {key: None if is_context(arg) else arg for key, arg in kwargs.items()}
    pickle = cloudpickle()
    with _by_value(pickle, sys.modules.get(function.__module__)):
        try:
            pickled: bytes = pickle.dumps((_body(function), plain, named), protocol=5)
        except Exception as error:
            raise SerializationError(
                f"{function.__qualname__}: {_unpicklable(pickle, args, kwargs)} cannot be "
                f"sent to Ray: {error}"
            ) from error
    return Call(facts, zlib.compress(pickled, 1))


def is_context(value: object) -> bool:
    """Whether a value is the context of a step, also one that a unit test has built."""
    return isinstance(
        value, dg.OpExecutionContext | dg.AssetExecutionContext | dg.AssetCheckExecutionContext
    )


def cloudpickle() -> Any:
    """Imports the pickler of Ray's package, or the package `cloudpickle`."""
    try:
        from ray import cloudpickle as pickler
    except ImportError:
        try:
            import cloudpickle as pickler  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise UnsupportedError(
                "ray_function needs Ray's Python package in the process of the step, to send the "
                "function: install ray[default]"
            ) from error
    return pickler


@cache
def _root() -> "tempfile.TemporaryDirectory[str]":
    """Returns the directory of this process for packages. It is removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="dagster-ray-functions-")


def _body(function: FunctionType) -> FunctionType:
    """Returns a copy of a function without annotations, which may name classes of Dagster."""
    body = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    body.__kwdefaults__ = function.__kwdefaults__
    body.__module__ = function.__module__
    body.__qualname__ = function.__qualname__
    return body


@contextmanager
def _by_value(pickle: Any, module: ModuleType | None) -> Generator[None]:
    """Lets what a module defines be pickled as code, not as the module's name."""
    with _lock:
        if module is None or module.__name__ in pickle.list_registry_pickle_by_value():
            yield
            return
        pickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            pickle.unregister_pickle_by_value(module)


def _unpicklable(pickle: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Returns the name of what cannot be pickled."""
    for name, value in [*((str(i), arg) for i, arg in enumerate(args)), *kwargs.items()]:
        if is_context(value):
            continue
        try:
            pickle.dumps(value, protocol=5)
        except Exception:
            return f"the argument {name} of type {type(value).__name__}"
    return "the function, with what it uses of its module,"


def _op_config(context: Context) -> Any:
    is_asset = isinstance(context, dg.AssetExecutionContext)
    op_context = context.op_execution_context if is_asset else context
    try:
        return json.loads(json.dumps(op_context.op_config))
    except (TypeError, ValueError):
        return None


__all__ = [
    "ENTRYPOINT",
    "INLINE_ENTRYPOINT",
    "PACKAGE",
    "Call",
    "cloudpickle",
    "is_context",
    "packed",
]
