"""The options that a code location sets for its runs, in Dagster's `container_context`."""

from collections.abc import Mapping
from typing import cast

import dagster as dg

from dagster_ray.errors import InvalidConfigError
from dagster_ray.instance_policy import check_container_context

_KEY = "ray"


def location_options(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dict[str, object]:
    """Returns the options under `ray` in the container context of a run's code location.

    They have precedence over the launcher's, and the tag `dagster-ray/config` over them. A code
    server gets its context by `dagster code-server start --container-context JSON`. Raises
    `InvalidConfigError` if they are no mapping, and `PermissionDeniedError` if the policy of the
    instance does not allow them.
    """
    origin = run.job_code_origin
    context = origin.repository_origin.container_context if origin else None
    given: object = (context or {}).get(_KEY)
    if given is None:
        return {}
    path = f"container_context.{_KEY}"
    if not isinstance(given, Mapping):
        problem = f"is {type(given).__name__}, not a mapping"
        hint = "write options such as {num_cpus: 1}"
        raise InvalidConfigError(
            f"{path}: {problem}; {hint}", fields=[{"path": path, "problem": problem, "hint": hint}]
        )
    options = dict(cast("Mapping[str, object]", given))
    check_container_context(instance, options, path)
    return options
