"""Reads the user's options. Errors name the field of each mistake."""

import json
from typing import Any, NoReturn

from componentize_py_types import Err
from wit_world.imports.model import Error_InvalidConfig, FieldError

# The tag of a run or an op that overrides the configuration, key by key.
_TAG = "dagster-ray/config"

_STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
_DIRECTORY = {"type": "string", "description": "The working directory on the service's machine."}

# The options of runs and steps: `backend_config` and the fields of the launcher's configuration.
WORKER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        # The Python adapter evaluates it for runs.
        "enabled": {"type": "boolean"},
        "env_vars": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Environment variables, as KEY=VALUE.",
        },
        "directory": _DIRECTORY,
    },
}

# The options of a script: `submit_job_params` of the Pipes client.
SCRIPT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "entrypoint": {"type": "string", "description": "The command line, run by sh."},
        "metadata": _STRINGS,
        "runtime_env": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"env_vars": _STRINGS},
        },
        "directory": _DIRECTORY,
    },
}

_TYPES: dict[str, type] = {"boolean": bool, "string": str, "array": list, "object": dict}


def invalid(path: str, problem: str, hint: str) -> NoReturn:
    """Raises an error for one field, with a hint."""
    raise Err(Error_InvalidConfig([FieldError(path, problem, hint)]))


def of_worker(options: str, tags: list[tuple[str, str]]) -> dict[str, Any]:
    """Returns the options of a run or step, overridden by the tag."""
    fields = _object("options", options) | _object(_TAG, dict(tags).get(_TAG, "{}"))
    return _checked(fields, WORKER_SCHEMA)


def of_script(options: str) -> dict[str, Any]:
    fields = _checked(_object("options", options), SCRIPT_SCHEMA)
    if not fields.get("entrypoint", "").strip():
        invalid("entrypoint", "is missing", "write the command, such as `python script.py`")
    return fields


def _object(path: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
        # A lone surrogate is valid JSON, but cannot be encoded as UTF-8.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        invalid(path, "is not a JSON object", "write {} for no options")
    # A null value counts as absent.
    return {key: entry for key, entry in value.items() if entry is not None}


def _checked(fields: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    mistakes = list(_mistakes("", fields, schema))
    if mistakes:
        raise Err(Error_InvalidConfig(mistakes))
    return fields


def _mistakes(path: str, value: Any, schema: dict[str, Any]):
    """Yields the violations of a schema, for the keywords that the schemas above use."""
    if not isinstance(value, _TYPES[schema["type"]]):
        kind = type(value).__name__
        yield FieldError(path, f"has the type {kind}", f"write a JSON {schema['type']}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _mistakes(f"{path}[{index}]", item, schema["items"])
    elif isinstance(value, dict):
        known: dict[str, Any] = schema.get("properties", {})
        others: Any = schema.get("additionalProperties")
        for key, entry in value.items():
            inner = f"{path}.{key}" if path else key
            if key in known or others:
                yield from _mistakes(inner, entry, known.get(key, others))
            else:
                yield FieldError(inner, "is unknown", f"known keys: {', '.join(known)}")
