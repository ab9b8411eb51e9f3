"""Resolves `dg.EnvVar("NAME")` and `{"env": "NAME"}` in what an operator or a code author wrote.

Values of run tags and of container contexts are never resolved: they name no variable of a process.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import dagster as dg

from dagster_ray import _library
from dagster_ray.errors import InvalidConfigError

_library.register()

# Mappings with names of the user's choice. Such a mapping may have the name `env`, as in the labels
# `{"env": "prod"}`, so only its values can be selectors.
_NAMES = frozenset(
    {
        "annotations",
        "backend_config",
        "backend_grants",
        "backend_programs",
        "cookies",
        "entrypoint_label_selector",
        "entrypoint_resources",
        "env_vars",
        "headers",
        "label_selector",
        "labels",
        "metadata",
        "resources",
    }
)
# Kubernetes manifests have labels in many places, and `secretKeyRef` for secrets. The values of
# `extras` are a script's own.
_DOCUMENTS = frozenset({"extras", "ray_cluster", "ray_job"})


def resolved_fields(fields: Mapping[str, object], path: str = "") -> dict[str, Any]:
    """Returns a copy of fields in which each selector is replaced by the value of its variable.

    In Kubernetes manifests and in `extras`, only `dg.EnvVar` is a selector. `path` is the beginning
    of the fields' names in errors. Raises `InvalidConfigError` if a variable is not set.
    """
    return {
        name: _resolved(value, f"{path}{name}", name, required=True)
        for name, value in fields.items()
    }


def resolved_or_none(value: object) -> Any:
    """Returns a copy of a value with resolved selectors: `None` for a variable that is not set."""
    return _resolved(value, "", "", required=False)


def without_selectors(fields: Mapping[str, object]) -> dict[str, object]:
    """Returns the fields whose values are known without the environment of a process."""
    return {name: value for name, value in fields.items() if not any(_found(value, name))}


def selected_variables(value: object, name: str) -> list[str]:
    """Returns the names of the variables that the value of a field selects."""
    return [found for found in _found(value, name) if found]


def _selected(value: object, name: str) -> str | None:
    """Returns the name of the variable that a value selects, or `None` for another value."""
    if isinstance(value, dg.EnvVar):
        return value.env_var_name
    if _is_integer(value):
        return str(getattr(value, "name", ""))
    if name in _NAMES or not isinstance(value, Mapping):
        return None
    fields = cast("Mapping[object, object]", value)
    variable = fields.get("env")
    return variable if isinstance(variable, str) and len(fields) == 1 else None


def _found(value: object, name: str, *, in_document: bool = False) -> Iterator[str]:
    variable = _selected(value, "labels" if in_document else name)
    if variable is not None:
        yield variable
        return
    in_document = in_document or name in _DOCUMENTS
    for key, entry in _entries(value):
        yield from _found(entry, key, in_document=in_document)


def _resolved(
    value: object, path: str, name: str, *, required: bool, in_document: bool = False
) -> Any:
    in_document = in_document or name in _DOCUMENTS
    variable = _selected(value, "labels" if in_document else name)
    if variable is not None:
        text = _value(variable, path, required=required)
        return text if text is None or not _is_integer(value) else _integer(text, variable, path)

    def entry(key: str, element: object) -> Any:
        at = f"{path}.{key}" if path else key
        return _resolved(element, at, key, required=required, in_document=in_document)

    if isinstance(value, Mapping):
        fields = cast("Mapping[object, object]", value)
        return {key: entry(str(key), element) for key, element in fields.items()}
    if isinstance(value, list | tuple):
        elements = cast("Sequence[object]", value)
        return [entry(str(index), element) for index, element in enumerate(elements)]
    return value


def _entries(value: object) -> list[tuple[str, object]]:
    if isinstance(value, Mapping):
        fields = cast("Mapping[object, object]", value)
        return [(str(key), element) for key, element in fields.items()]
    if isinstance(value, list | tuple):
        elements = cast("Sequence[object]", value)
        return [(str(index), element) for index, element in enumerate(elements)]
    return []


def _is_integer(value: object) -> bool:
    """Whether a value is `dg.EnvVar.int("NAME")`, whose class Dagster does not export."""
    return isinstance(value, int) and hasattr(value, "get_value")


def _integer(text: str, variable: str, path: str) -> int:
    try:
        return int(text)
    except ValueError:
        problem = f"the environment variable {variable} is not an integer"
        raise InvalidConfigError(
            f"{path}: {problem}; set {variable} to a number such as 60",
            fields=[{"path": path, "problem": problem, "hint": None}],
        ) from None


def _value(variable: str, path: str, *, required: bool) -> str | None:
    value = os.environ.get(variable)
    if value is None and required:
        problem = f"the environment variable {variable} is not set in this process"
        hint = f"set {variable}, or write the value itself"
        raise InvalidConfigError(
            f"{path}: {problem}; {hint}",
            fields=[{"path": path, "problem": problem, "hint": hint}],
        )
    return value


__all__ = ["resolved_fields", "resolved_or_none", "selected_variables", "without_selectors"]
