"""Describes the public names of an installed `dagster_ray`, with their parameters and defaults.

`python collect.py > dagster_ray_0_4_8.json`, run in an environment with
`dagster-ray[kuberay]==0.4.8`, writes the list that `test_public_names.py` compares this package
with. It holds names, parameters and default values only.
"""

import ast
import enum
import inspect
import json
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

PACKAGE = "dagster_ray"
# What a resource or a client is by default depends on the objects of Dagster, not on a value.
_PLAIN = (str, int, float, bool, type(None))


def modules() -> Iterator[str]:
    """Yields the modules of the installed package. Modules of Dagster's own names count too."""
    package = import_module(PACKAGE)
    yield PACKAGE
    for found in pkgutil.walk_packages(package.__path__, f"{PACKAGE}."):
        if not found.name.endswith("_version"):
            yield found.name


def names(module: ModuleType) -> list[str]:
    """Returns the public names that a module defines or exports in `__all__`."""
    found: set[str] = set(getattr(module, "__all__", ()))
    file = module.__file__
    assert file is not None
    with open(file, encoding="utf-8") as opened:  # noqa: PTH123
        tree = ast.parse(opened.read())
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    public = (name for name in found if not name.startswith("_") and name != "logger")
    return sorted(name for name in public if not isinstance(getattr(module, name), TypeVar))


def describe(value: object, module: str) -> dict[str, Any]:
    """Describes a class, a function, an object of Dagster or a constant of a module."""
    home = getattr(value, "__module__", module)
    if isinstance(value, type) or inspect.isfunction(value):
        if home != module and home.startswith(PACKAGE):
            return {"same_as": f"{home}.{value.__qualname__}"}
        return _class(value) if isinstance(value, type) else _function(value)
    if isinstance(value, (*_PLAIN, Mapping, list, tuple, set, frozenset)):
        # Names and values are facts; the wording of a message is not.
        is_message = isinstance(value, str) and " " in value
        return {"kind": "message"} if is_message else {"kind": "constant", "value": plain(value)}
    return {"kind": type(value).__name__}


def plain(value: object) -> Any:
    """Returns a value as JSON, with a marker in place of each object that JSON cannot hold."""
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, set | frozenset):
        return sorted(plain(entry) for entry in value)
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    fields = fields_of(type(value))
    if fields and not hasattr(value, "create_resource"):
        # The defaults of its class are described there.
        set_here = {name: plain(getattr(value, name)) for name in fields}
        changed = {
            name: one for name, one in set_here.items() if fields[name].get("default") != one
        }
        return {f"<{type(value).__name__}>": changed}
    return f"<{type(value).__name__}>"


def _class(cls: type) -> dict[str, Any]:
    if hasattr(cls, "__total__"):
        required = sorted(getattr(cls, "__required_keys__", ()))
        return {"kind": "dict", "keys": sorted(cls.__annotations__), "required": required}
    # `BaseKubeRayClient[RayClusterStatus]` is no class of its own.
    bases = [
        base
        for base in cls.__mro__[1:]
        if base.__module__.startswith(PACKAGE) and "[" not in base.__name__
    ]
    described: dict[str, Any] = {"kind": "class"}
    if bases:
        described["bases"] = [f"{base.__module__}.{base.__qualname__}" for base in bases]
    inherited = {name: one for base in reversed(bases) for name, one in fields_of(base).items()}
    fields = fields_of(cls)
    if fields:
        described["fields"] = {
            name: one for name, one in fields.items() if inherited.get(name) != one
        }
    elif "__init__" in vars(cls):
        described["parameters"] = parameters_of(cls.__init__)[1:]
    described["members"] = {
        name: member(cls, name)
        for name in sorted(vars(cls))
        if not name.startswith(("_", "model_")) and name not in fields
    }
    return {key: value for key, value in described.items() if value}


def fields_of(cls: type) -> dict[str, Any]:
    """Describes the fields of a resource or configuration, or returns `{}` for another class."""
    fields = getattr(cls, "model_fields", None) or {}
    return {name: _field(field) for name, field in sorted(fields.items())}


def member(cls: type, name: str) -> dict[str, Any]:
    """Describes a method, a property or a constant of a class."""
    found = inspect.getattr_static(cls, name)
    if isinstance(found, staticmethod | classmethod):
        first = int(isinstance(found, classmethod))
        return {"kind": "method", "parameters": parameters_of(found.__func__)[first:]}
    if inspect.isfunction(found):
        return {"kind": "method", "parameters": parameters_of(found)[1:]}
    if isinstance(found, _PLAIN):
        return {"kind": "constant", "value": plain(found)}
    return {"kind": "attribute"}


def _field(field: Any) -> dict[str, Any]:
    if field.is_required():
        return {"required": True}
    return {"default": plain(field.get_default(call_default_factory=True))}


def _function(function: Any) -> dict[str, Any]:
    return {"kind": "function", "parameters": parameters_of(function)}


def parameters_of(function: Any) -> list[dict[str, Any]]:
    """Describes the parameters of a function, `self` included."""
    found: list[dict[str, Any]] = []
    listed = inspect.signature(function).parameters.values()
    # A parameter whose name begins with an underscore is private.
    for parameter in (one for one in listed if not one.name.startswith("_")):
        one: dict[str, Any] = {"name": parameter.name, "kind": parameter.kind.name.lower()}
        if parameter.default is not inspect.Parameter.empty:
            one["default"] = plain(parameter.default)
        found.append(one)
    return found


def collect() -> dict[str, dict[str, Any]]:
    """Describes every public name of every module of the installed package."""
    listed: dict[str, dict[str, Any]] = {}
    for name in sorted(modules()):
        module = import_module(name)
        listed[name] = {one: describe(getattr(module, one), name) for one in names(module)}
    return {name: described for name, described in listed.items() if described}


def written(listed: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the list as JSON with one line for each name."""
    parts: list[str] = []
    for module, described in listed.items():
        lines = [f"  {json.dumps(name)}: {json.dumps(one)}" for name, one in described.items()]
        parts.append(f" {json.dumps(module)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    sys.stdout.write(written(collect()))
