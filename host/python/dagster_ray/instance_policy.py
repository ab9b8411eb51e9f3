"""Asks the policy of a Dagster instance who may choose which value.

The native module decides. This module passes each value with its source.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict, cast

import dagster as dg
from pydantic import BaseModel

from dagster_ray import _library
from dagster_ray.component_files import native
from dagster_ray.configs import USER_DEFINED_RAY_KEY
from dagster_ray.env_selectors import selected_variables

_library.register()

# The text of the policy, for workers on machines that do not have the file.
_TEXT_VARIABLE = "DAGSTER_RAY_POLICY_TEXT"

Source = Literal["code", "run-config", "run-tag", "container-context"]


class Choice(TypedDict):
    """The value of one field, and who chose it."""

    field: str
    path: str
    value: object
    source: Source


def check_run_tag(instance: dg.DagsterInstance, override: Mapping[str, object] | None) -> None:
    """Checks the tag `dagster-ray/config` of a run. Raises `PermissionDeniedError`."""
    if override is not None:
        path = f"the run tag {USER_DEFINED_RAY_KEY}"
        _check(instance.root_directory, [_choice(USER_DEFINED_RAY_KEY, path, override, "run-tag")])


def check_container_context(
    instance: dg.DagsterInstance, options: Mapping[str, object], path: str
) -> None:
    """Checks the options that a code location sets for its runs. Raises `PermissionDeniedError`.

    The code location is another process than the daemon, which resolves them. So they are no more
    trusted than a tag: they name no variables and files of the daemon. `path` is where they are.
    """
    choices = [
        _choice(field, f"{path}.{field}", value, "container-context")
        for field, value in options.items()
    ]
    _check(instance.root_directory, choices)


def check_executor(
    instance: dg.DagsterInstance,
    config: Mapping[str, object],
    run_config: Mapping[str, object],
    default_run_config: Mapping[str, object] | None,
) -> None:
    """Checks the effective configuration of an executor. Raises `PermissionDeniedError`.

    A value in the run's config is the launch user's, unless the job's default config has the same.
    """
    path = "execution.config"
    given, default = _executor_fields(run_config, path), _executor_fields(default_run_config, path)
    _check(instance.root_directory, _choices(config, given, default, path))


def check_op(
    instance: dg.DagsterInstance,
    config: Mapping[str, object],
    handle: Sequence[str],
    run_config: Mapping[str, object],
    default_run_config: Mapping[str, object] | None,
) -> None:
    """Checks the effective configuration of an op. Raises `PermissionDeniedError`.

    `handle` has the names of the graphs around the op, and its own. A value in the run's config is
    the launch user's, unless the job's default config has the same.
    """
    path = f"ops.{'.ops.'.join(handle)}.config"
    given, default = _at(run_config, path), _at(default_run_config or {}, path)
    _check(instance.root_directory, _choices(config, given, default, path))


def check_resource(context: dg.InitResourceContext, resource: BaseModel) -> None:
    """Checks the configuration of a resource. Raises `PermissionDeniedError`.

    A value in the run's config is the launch user's.
    """
    if context.instance is None:
        return
    key, run = resource_key(context), context.run
    resources = _at({} if run is None else run.run_config, "resources")
    # If the context does not name the resource, any of the configs may be its own.
    given: dict[str, object] = {}
    for name in resources if key is None else [key]:
        given |= _at(resources, f"{name}.config")
    path = f"resources.{key or '*'}.config"
    choices: list[Choice] = []
    for field in type(resource).model_fields:
        value: object = getattr(resource, field)
        if field in given:
            choices.extend(_written(field, f"{path}.{field}", given[field]))
        elif isinstance(value, dg.Config):
            choices.append(_choice(field, field, value.model_dump(), "code"))
        elif isinstance(value, str | int | float | bool | dict | list):
            choices.append(_choice(field, field, cast(object, value), "code"))
    _check(context.instance.root_directory, choices)


def check_code(root: str | None, fields: Mapping[str, object], path: str = "") -> None:
    """Checks fields of an object that code has built. Raises `PermissionDeniedError`.

    `root` is the root directory of the instance, by default DAGSTER_HOME. `path` is the beginning
    of the fields' names in errors.
    """
    given = {field: value for field, value in fields.items() if value is not None}
    _check(
        root, [_choice(field, f"{path}{field}", value, "code") for field, value in given.items()]
    )


def resource_key(context: object) -> str | None:
    """Returns the key of the resource that Dagster initializes, if the context has it."""
    try:
        definitions = getattr(context, "all_resource_defs", None)
        current = getattr(context, "resource_def", None)
    except dg.DagsterInvariantViolationError:
        # The context of `build_init_resource_context` has no resource.
        return None
    if not definitions or current is None:
        return None
    return next((key for key, found in definitions.items() if found is current), None)


def worker_environment(instance: dg.DagsterInstance) -> dict[str, str]:
    """Returns the environment variables that pass the policy on to a worker."""
    text = native().policy_text(instance.root_directory)
    return {} if text is None else {_TEXT_VARIABLE: text}


def _choices(
    config: Mapping[str, object],
    given: Mapping[str, object],
    default: Mapping[str, object],
    path: str,
) -> list[Choice]:
    """Returns the choices of a configuration: `given` is in the run's config."""
    choices: list[Choice] = []
    for key, value in config.items():
        if key in given and (key not in default or default[key] != given[key]):
            choices.extend(_written(key, f"{path}.{key}", given[key]))
        else:
            choices.append(_choice(key, f"{path}.{key}", value, "code"))
    return choices


def _written(field: str, path: str, value: object) -> list[Choice]:
    """Returns the choices of a value in run config, with the variables that it selects.

    The value is the written one: an error must not show the value of a variable.
    """
    choices = [_choice(field, path, value, "run-config")]
    names = selected_variables(value, field)
    return [*choices, _choice("env_vars", path, names, "run-config")] if names else choices


def _choice(field: str, path: str, value: object, source: Source) -> Choice:
    return {"field": field, "path": path, "value": value, "source": source}


def _check(root: str | None, choices: list[Choice]) -> None:
    # Values of types that JSON does not have, such as `EnvVar`, come from code.
    native().check_choices(json.dumps(choices, default=str), root)


def _executor_fields(run_config: Mapping[str, object] | None, path: str) -> dict[str, object]:
    """Returns the fields of an executor in run config, where `ray:` may contain them."""
    found = _at(run_config or {}, path)
    return {**found, **_mapping(found.get("ray"))}


def _at(config: Mapping[str, object], path: str) -> Mapping[str, object]:
    found: Mapping[str, object] = config
    for part in path.split("."):
        found = _mapping(found.get(part))
    return found


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}


__all__ = [
    "check_code",
    "check_executor",
    "check_op",
    "check_resource",
    "check_run_tag",
    "resource_key",
    "worker_environment",
]
