"""The options of users: ``backend_config``, the launcher's and executor's fields, and the tag
``dagster-ray/config``, which overrides both.
"""

import json
from dataclasses import dataclass
from typing import Any, NoReturn

from componentize_py_types import Err
from wit_world.imports import store
from wit_world.imports.model import Error_InvalidConfig, FieldError

_TAG = "dagster-ray/config"

# A setting comes from `backend_config`, and is not passed with each run and step.
GRACE = "stop_grace_seconds"
GRACE_HELP = "Seconds that a process may take to end before it is killed. Default: 10."
_GRACE_SECONDS = 10.0

# The JSON schema of the options.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "enabled": {"type": "boolean"},
        "env_vars": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Environment variables, as KEY=VALUE.",
        },
    },
}


@dataclass
class Options:
    """The options of a run or step."""

    # Whether this backend executes a step. The Python package evaluates it for runs.
    enabled: bool
    env_vars: list[tuple[str, str]]


def merged(options: str, tags: list[tuple[str, str]]) -> Options:
    """Returns the options, overridden by each key of the tag. Raises if a key is invalid."""
    fields = _object("options", options) | _object(_TAG, dict(tags).get(_TAG, "{}"))
    known = ", ".join(SCHEMA["properties"])
    mistakes = [
        FieldError(key, "is not a known option", f"write one of {known}")
        for key in fields
        if key not in SCHEMA["properties"]
    ]
    if not isinstance(fields.get("enabled", True), bool):
        mistakes.append(FieldError("enabled", "is not a boolean", "write true or false"))
    entries = fields.get("env_vars", [])
    if not isinstance(entries, list) or not all("=" in str(entry) for entry in entries):
        # Do not show the value: it may contain a secret.
        mistakes.append(FieldError("env_vars", "is not a list of KEY=VALUE", "write [KEY=VALUE]"))
    if mistakes:
        raise Err(Error_InvalidConfig(mistakes))
    pairs = [str(entry).partition("=") for entry in entries]
    variables = [(name, value) for name, _, value in pairs]
    return Options(fields.get("enabled", True), variables)


def grace_ms() -> int:
    """Returns how long a process may take to end, in milliseconds."""
    given = store.get(GRACE)
    try:
        seconds = _GRACE_SECONDS if given is None else float(given)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 3600:
        _invalid(GRACE, f"is {given}", "write a number of seconds below 3600")
    return int(seconds * 1000)


def _object(path: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
        # A lone surrogate is valid JSON, but cannot be encoded.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        _invalid(path, "is not a JSON object", "write {} for none")
    # A null value counts as not set.
    return {key: entry for key, entry in value.items() if entry is not None}


def _invalid(path: str, problem: str, hint: str) -> NoReturn:
    raise Err(Error_InvalidConfig([FieldError(path, problem, hint)]))
