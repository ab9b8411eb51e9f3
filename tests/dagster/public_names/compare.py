"""Compares the public names of this package with a list that `collect.py` wrote.

A difference is a dotted path below `dagster_ray`, such as
`core.pipes.PipesRayJobClient.run.extras`, with what is different.
"""

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import collect

Differences = Iterator[tuple[str, str]]


def differences(listed: Mapping[str, Mapping[str, Any]]) -> Differences:
    """Yields each listed name that this package lacks or defines differently."""
    for module, described in listed.items():
        path = module.removeprefix(f"{collect.PACKAGE}.")
        try:
            imported = import_module(module)
        except ModuleNotFoundError:
            yield path, "there is no such module"
            continue
        for name, one in described.items():
            here = path if module != collect.PACKAGE else ""
            yield from _compared(f"{here}.{name}".lstrip("."), imported, name, one)


def _found(dotted: str) -> object:
    module, _, name = dotted.rpartition(".")
    return getattr(import_module(module), name)


def _compared(path: str, module: object, name: str, listed: Mapping[str, Any]) -> Differences:
    try:
        ours = getattr(module, name)
    except AttributeError:
        yield path, "there is no such name"
        return
    if "same_as" in listed:
        try:
            same = _found(listed["same_as"]) is ours
        except (ImportError, AttributeError):
            same = False
        if not same:
            yield path, f"it is not {listed['same_as']}"
        return
    if listed["kind"] == "class":
        yield from _class(path, ours, listed)
    elif listed["kind"] == "function":
        yield from _parameters(path, collect.parameters_of(ours), listed["parameters"])
    elif listed["kind"] == "dict":
        yield from _keys(path, ours, listed)
    elif listed["kind"] == "message":
        if not isinstance(ours, str):
            yield path, "it is no text"
    elif listed["kind"] == "constant":
        if collect.plain(ours) != listed["value"]:
            yield path, f"its value is {collect.plain(ours)!r}"
    elif type(ours).__name__ != listed["kind"]:
        yield path, f"it is a {type(ours).__name__}"


def _class(path: str, ours: type, listed: Mapping[str, Any]) -> Differences:
    for base in listed.get("bases", ()):
        try:
            is_derived = issubclass(ours, _found(base))  # type: ignore[arg-type]
        except (ImportError, AttributeError):
            is_derived = False
        if not is_derived:
            yield path, f"it is not derived from {base}"
    fields = collect.fields_of(ours)
    for name, field in listed.get("fields", {}).items():
        if name not in fields:
            yield f"{path}.{name}", "there is no such field"
        elif "default" in field and fields[name] != field:
            yield f"{path}.{name}", f"its default is {fields[name]}"
    if "parameters" in listed:
        own = collect.parameters_of(ours.__init__)[1:]
        yield from _parameters(f"{path}.__init__", own, listed["parameters"])
    for name, one in listed.get("members", {}).items():
        # A member may be a field here, and the reverse.
        if name not in fields:
            yield from _member(f"{path}.{name}", ours, name, one)


def _member(path: str, ours: type, name: str, listed: Mapping[str, Any]) -> Differences:
    if not hasattr(ours, name):
        yield path, "there is no such member"
        return
    member = collect.member(ours, name)
    if member["kind"] != listed["kind"]:
        yield path, f"it is a {member['kind']}"
    elif member["kind"] == "method":
        yield from _parameters(path, member["parameters"], listed["parameters"])
    elif member != listed:
        yield path, f"it is {member}"


def _keys(path: str, ours: Any, listed: Mapping[str, Any]) -> Differences:
    for key in listed["keys"]:
        if key not in ours.__annotations__:
            yield f"{path}.{key}", "there is no such key"
    for key in sorted(set(ours.__required_keys__) - set(listed["required"])):
        yield f"{path}.{key}", "it is required"


def _parameters(path: str, ours: list[dict[str, Any]], listed: list[dict[str, Any]]) -> Differences:
    """Yields each listed parameter that a call cannot pass here, or whose default differs."""
    positions = {one["name"]: at for at, one in enumerate(ours)}
    takes_any = any(one["kind"] == "var_keyword" for one in ours)
    for at, parameter in enumerate(listed):
        name, kind = parameter["name"], parameter["kind"]
        where = f"{path}.{name}"
        if name not in positions:
            is_variable = kind.startswith("var_") and any(one["kind"] == kind for one in ours)
            if not is_variable and not (kind == "keyword_only" and takes_any):
                yield where, "there is no such parameter"
            continue
        own = ours[positions[name]]
        if kind == "positional_or_keyword" and (own["kind"] != kind or positions[name] != at):
            yield where, "it has another position"
        if "default" in parameter and own.get("default", "required") != parameter["default"]:
            yield where, f"its default is {own.get('default', 'missing')!r}"
    known = {one["name"] for one in listed}
    for own in ours:
        is_required = "default" not in own and not own["kind"].startswith("var_")
        if is_required and own["name"] not in known:
            yield f"{path}.{own['name']}", "it is a further required parameter"
