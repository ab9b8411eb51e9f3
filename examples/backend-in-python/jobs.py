"""The service's jobs: their ids and what they execute."""

import hashlib
import re
from typing import Any

from options import invalid
from wit_world.imports import random
from wit_world.imports.model import WorkerCommand

Spec = dict[str, Any]

# The label with a nonce that distinguishes launches.
LAUNCH = "launch"

# The label with the Dagster deployment. Deployments that share the service identify their jobs by
# it.
DEPLOYMENT = "dagster-ray/deployment"

# The variable with a worker's last argument, which may hold secrets. The service shows command
# lines to every client.
_ARGUMENT = "DAGSTER_WORKER_ARGUMENT"
_LONGEST_NAME = 60
_ID = re.compile("[A-Za-z0-9._-]{1,200}")


def run_id(run_id: str, attempt: int) -> str:
    """Returns the id of a run's job."""
    return f"dagster-run-{_slug(run_id)}.{attempt}"


def step_id(run_id: str, step_key: str, attempt: int) -> str:
    """Returns the id of a step's job."""
    return f"dagster-step-{_slug(run_id)}.{_slug(step_key)}.{attempt}"


def script_id(run_id: str, nonce: str) -> str:
    """Returns the id of a script's job."""
    return f"dagster-pipes-{_slug(run_id)}.{_slug(nonce)}"


def is_id(text: str) -> bool:
    """Returns whether the service accepts the text as an id."""
    return _ID.fullmatch(text) is not None


def _slug(name: str) -> str:
    """Returns the name if it fits into an id, or else a replacement with a hash of the name.

    A step's key may contain any character.
    """
    plain = re.sub("[^A-Za-z0-9_-]", "_", name[:_LONGEST_NAME])
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def of_worker(command: WorkerCommand, options: Spec, labels: dict[str, str]) -> Spec:
    """Returns the job of a run worker or a step worker."""
    env = {}
    for index, entry in enumerate(options.get("env_vars", [])):
        name, separator, value = entry.partition("=")
        if not separator:
            # The entry is left out of the error, because it may hold a secret.
            invalid(f"env_vars[{index}]", "has no `=`", "write KEY=VALUE")
        env[name] = value
    # The worker's own variables take precedence over the user's.
    env.update(command.env)
    argv = list(command.argv)
    if command.payload is not None:
        env[_ARGUMENT] = command.payload
        argv = ["sh", "-c", f'exec "$@" "${_ARGUMENT}"', "sh", *argv]
    return _spec(argv, env, labels, options)


def of_script(options: Spec, bootstrap: dict[str, str], labels: dict[str, str]) -> Spec:
    """Returns the job of a script that reports through Dagster Pipes."""
    env = {**options.get("runtime_env", {}).get("env_vars", {}), **bootstrap}
    labels = {**options.get("metadata", {}), **labels}
    return _spec(["sh", "-c", options["entrypoint"]], env, labels, options)


def _spec(argv: list[str], env: dict[str, str], labels: dict[str, str], options: Spec) -> Spec:
    # Python's `random` was seeded when the component was built, so it repeats in each call.
    labels = {**labels, LAUNCH: f"{random.get_random_u64():016x}"}
    directory = {"directory": options["directory"]} if "directory" in options else {}
    return {"argv": argv, "env": env, "labels": labels, **directory}
