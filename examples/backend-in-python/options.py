"""What users write, with every mistake told by the name of its field."""

import json
from typing import Any, NoReturn

from componentize_py_types import Err
from wit_world.imports.model import Error_InvalidConfig, FieldError

# The tag with which a run or an op overrides the configuration, key by key.
_TAG = "dagster-ray/config"

_STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
_DIRECTORY = {"type": "string", "description": "Where it runs, on the service's machine."}

# The options of runs and steps: `backend_config` and what the shim has fields for.
WORKER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        # The shim has acted on it already.
        "enabled": {"type": "boolean"},
        "env_vars": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Environment variables, as KEY=VALUE.",
        },
        "directory": _DIRECTORY,
    },
}

# The options of a script: what `submit_job_params` says of it.
SCRIPT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "entrypoint": {"type": "string", "description": "A command line, for sh."},
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
    """Fails with one mistake, and what to write instead."""
    raise Err(Error_InvalidConfig([FieldError(path, problem, hint)]))


def of_worker(options: str, tags: list[tuple[str, str]]) -> dict[str, Any]:
    """The configuration, overridden by the tag."""
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
        # Half of a surrogate pair is JSON, but no text that could be passed on.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        invalid(path, "is no JSON object", "write {} for nothing")
    # What is null is as good as not there.
    return {key: entry for key, entry in value.items() if entry is not None}


def _checked(fields: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    mistakes = list(_mistakes("", fields, schema))
    if mistakes:
        raise Err(Error_InvalidConfig(mistakes))
    return fields


def _mistakes(path: str, value: Any, schema: dict[str, Any]):
    """As much of JSON Schema as the schemas above use."""
    if not isinstance(value, _TYPES[schema["type"]]):
        kind = type(value).__name__
        yield FieldError(path, f"is of the type {kind}", f"write a JSON {schema['type']}")
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
                yield FieldError(inner, "is not known", f"known: {', '.join(known)}")
