"""What users write: ``backend_config``, the fields that the Python package has, and the tag
``dagster-ray/config``, which overrides both.
"""

import json
from dataclasses import dataclass
from typing import Any, NoReturn

from componentize_py_types import Err
from wit_world.imports import store
from wit_world.imports.model import Error_InvalidConfig, FieldError

_TAG = "dagster-ray/config"

# A setting is read once from `backend_config`, and does not come with each run and step.
GRACE = "stop_grace_seconds"
GRACE_IS = "How long a process may take to end before it is killed. Default: 10."
_GRACE_SECONDS = 10.0

# The JSON schema of what `merged` takes. Dagster shows its errors before anything is launched.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        # The Python package has acted on it already.
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

    env_vars: list[tuple[str, str]]


def merged(options: str, tags: list[tuple[str, str]]) -> Options:
    """The options, overridden by the tag, key by key."""
    fields = _object("options", options) | _object(_TAG, dict(tags).get(_TAG, "{}"))
    known = ", ".join(SCHEMA["properties"])
    mistakes = [
        FieldError(key, "is not known", f"known: {known}")
        for key in fields
        if key not in SCHEMA["properties"]
    ]
    if not isinstance(fields.get("enabled", True), bool):
        mistakes.append(FieldError("enabled", "is no boolean", "write true or false"))
    entries = fields.get("env_vars", [])
    if not isinstance(entries, list) or not all("=" in str(entry) for entry in entries):
        # Not what it is: it may hold a secret, and errors are shown to many.
        mistakes.append(FieldError("env_vars", "is wrong", "write a list of KEY=VALUE"))
    if mistakes:
        raise Err(Error_InvalidConfig(mistakes))
    pairs = [str(entry).partition("=") for entry in entries]
    return Options([(name, value) for name, _, value in pairs])


def grace_ms() -> int:
    """How long a process may take to end."""
    given = store.get(GRACE)
    try:
        seconds = _GRACE_SECONDS if given is None else float(given)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 3600:
        _invalid(GRACE, f"is {given}", "write seconds, less than 3600")
    return int(seconds * 1000)


def _object(path: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
        # Half of a surrogate pair is JSON, but no text that could be passed on.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        _invalid(path, "is no JSON object", "write {} for nothing")
    # What is null is as good as not there.
    return {key: entry for key, entry in value.items() if entry is not None}


def _invalid(path: str, problem: str, hint: str) -> NoReturn:
    raise Err(Error_InvalidConfig([FieldError(path, problem, hint)]))
