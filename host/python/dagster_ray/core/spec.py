"""Converts Dagster's objects to the records of the WIT contract."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dagster import DagsterRun

from dagster_ray.backend import local_directories
from dagster_ray.configs import USER_DEFINED_RAY_KEY

# The fields of a configuration that are passed with each run and step. The others select the
# backend and its connection.
_OPTIONS = (
    "enabled",
    "num_cpus",
    "num_gpus",
    "memory",
    "resources",
    "runtime_env",
    "env_vars",
    "metadata",
)


def options_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a flat configuration that are passed with each run or step."""
    return {key: config[key] for key in _OPTIONS if config.get(key) is not None}


def worker_spec(
    run: DagsterRun,
    *,
    attempt: int,
    argv: Sequence[str],
    payload: str | None,
    env: Mapping[str, str],
    tags: Mapping[str, str],
    options: Mapping[str, Any],
) -> tuple[dict[str, Any], set[str]]:
    """Returns the fields that run and step specs share, and the local directories they name."""
    tags = dict(tags)
    config = {**options, **_with_env_vars(options)}
    override = parsed(tags.get(USER_DEFINED_RAY_KEY))
    if override is not None:
        override = {**override, **_with_env_vars(override)}
        tags[USER_DEFINED_RAY_KEY] = json.dumps(override)
    spec = {
        "run_id": run.run_id,
        "attempt": attempt,
        "job_name": run.job_name,
        "code_location": _code_location(run),
        "command": {"argv": list(argv), "payload": payload, "env": _pairs(env)},
        "tags": _pairs(tags),
        "options": json.dumps(config),
    }
    environments = (source.get("runtime_env") for source in (config, override or {}))
    return spec, local_directories(*environments)


def parsed(tag: str | None) -> dict[str, Any] | None:
    """Parses a tag as a JSON object. Returns `None` if it is not one; the component reports it."""
    try:
        document = json.loads(tag) if tag is not None else None
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _with_env_vars(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `env_vars` with the values that variables have in this process."""
    entries = config.get("env_vars")
    if not isinstance(entries, list):
        return {}
    return {"env_vars": list(_valued(entries))}


def _valued(entries: Iterable[Any]) -> Iterable[Any]:
    for entry in entries:
        if not isinstance(entry, str) or "=" in entry:
            yield entry
        elif os.environ.get(entry):
            yield f"{entry}={os.environ[entry]}"


def _code_location(run: DagsterRun) -> str | None:
    origin = run.remote_job_origin
    return origin.repository_origin.code_location_origin.location_name if origin else None


def _pairs(values: Mapping[str, str]) -> list[list[str]]:
    return [[key, value] for key, value in values.items()]
