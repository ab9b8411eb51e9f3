"""The environment variables of Ray's job client, for settings that the configuration leaves out."""

import json
import os
from collections.abc import Mapping
from typing import cast

from dagster_ray.errors import InvalidConfigError

_HEADERS = "RAY_JOB_HEADERS"
_IGNORE_GITIGNORE = "RAY_RUNTIME_ENV_IGNORE_GITIGNORE"
_DEFAULT_EXCLUDES = "RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES"


def job_headers(configured: Mapping[str, str] | None) -> dict[str, str]:
    """Returns the configured HTTP headers, or else those of RAY_JOB_HEADERS (a JSON object).

    Raises `InvalidConfigError` if the variable is invalid. The error does not quote it, because
    headers are credentials.
    """
    text = os.environ.get(_HEADERS)
    if configured is not None or not text:
        return dict(configured or {})
    try:
        found: object = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, dict):
        headers = cast("dict[str, object]", found)
        if all(isinstance(value, str) for value in headers.values()):
            return cast("dict[str, str]", headers)
    problem, hint = "is not a JSON object of strings", 'write {"NAME": "VALUE"}'
    raise InvalidConfigError(
        f"{_HEADERS} {problem}; {hint}",
        fields=[{"path": _HEADERS, "problem": problem, "hint": hint}],
    )


def with_upload_rules(offered: Mapping[str, object]) -> dict[str, object]:
    """Returns settings with those that Ray's variables choose for uploaded directories."""
    found: dict[str, object] = {}
    if os.environ.get(_IGNORE_GITIGNORE) == "1":
        found["gitignore"] = False
    if _DEFAULT_EXCLUDES in os.environ:
        found["default_excludes"] = os.environ[_DEFAULT_EXCLUDES]
    return {**found, **offered}


__all__ = ["job_headers", "with_upload_rules"]
