"""Converts Dagster's objects to the records of the WIT contract."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import cast

from dagster import DagsterRun

from dagster_ray.configs import USER_DEFINED_RAY_KEY, RayExecutionConfig, image_tag
from dagster_ray.contract import Attributes, RunSpec
from dagster_ray.env_vars import valued
from dagster_ray.environment_files import with_environment_files

# As in Ray (`_private/runtime_env/packaging.py`) and in the components (`is_local_path`).
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
# The fields of a configuration that are passed with each run and step. The others select the
# backend and its connection.
_OPTIONS = (*RayExecutionConfig.model_fields, "metadata")


def run_options(config: Mapping[str, object]) -> dict[str, object]:
    """Returns the fields of a flat configuration that are passed with each run or step."""
    return {key: config[key] for key in _OPTIONS if config.get(key) is not None}


def parse_tag(tags: Mapping[str, str]) -> dict[str, object] | None:
    """Parses the tag `dagster-ray/config` of a run or step.

    Returns `None` if the tag is missing, or not a JSON object; the component reports the latter.
    """
    text = tags.get(USER_DEFINED_RAY_KEY)
    try:
        document: object = json.loads(text) if text is not None else None
    except ValueError:
        return None
    return cast("dict[str, object]", document) if isinstance(document, dict) else None


def worker_spec(
    run: DagsterRun,
    *,
    deployment: str,
    attempt: int,
    argv: Sequence[str],
    payload: str | None,
    env: Mapping[str, str],
    tags: Mapping[str, str],
    override: Mapping[str, object] | None,
    options: Mapping[str, object],
) -> tuple[RunSpec, set[str]]:
    """Returns the spec of a run, and the local directories that it names.

    A step's spec has the same fields and the step's key. The tags include the run's image, which a
    component may use where no option names one.

    `override` is the parsed tag `dagster-ray/config` of `tags`.
    """
    tags = {**image_tag(run), **tags}
    config = resolved(options)
    if override is not None:
        override = resolved(override)
        tags[USER_DEFINED_RAY_KEY] = json.dumps(override)
    spec: RunSpec = {
        "deployment": deployment,
        "run_id": run.run_id,
        "attempt": attempt,
        "job_name": run.job_name,
        "code_location": _code_location(run),
        "command": {"argv": list(argv), "payload": payload, "env": attributes(env)},
        "tags": attributes(tags),
        "options": json.dumps(config),
    }
    environments = (source.get("runtime_env") for source in (config, override or {}))
    return spec, local_directories(*environments)


def local_directories(*runtime_envs: object) -> set[str]:
    """Returns the paths that a component may read to upload `working_dir` and `py_modules`.

    A text with a scheme is a URI. The component decides what it uploads.
    """
    found: set[str] = set()
    for runtime_env in runtime_envs:
        if not isinstance(runtime_env, Mapping):
            continue
        fields = cast("Mapping[str, object]", runtime_env)
        modules = fields.get("py_modules")
        entries = [fields.get("working_dir")]
        if isinstance(modules, list):
            entries.extend(cast("list[object]", modules))
        found.update(e for e in entries if isinstance(e, str) and e and not _SCHEME.match(e))
    return found


def resolved(config: Mapping[str, object]) -> dict[str, object]:
    """Returns options with what only this machine has: values of variables, contents of files."""
    found = {**config, **_with_env_vars(config)}
    if "runtime_env" in config:
        found["runtime_env"] = with_environment_files(config["runtime_env"])
    return found


def _with_env_vars(config: Mapping[str, object]) -> dict[str, object]:
    """Returns `env_vars` with the values that variables have in this process."""
    entries: object = config.get("env_vars")
    if not isinstance(entries, list):
        return {}
    return {"env_vars": list(valued(cast("list[object]", entries)))}


def _code_location(run: DagsterRun) -> str | None:
    origin = run.remote_job_origin
    return origin.repository_origin.code_location_origin.location_name if origin else None


def attributes(values: Mapping[str, str]) -> Attributes:
    """Returns environment variables, tags or labels in the form of the contract."""
    return [[key, value] for key, value in values.items()]
