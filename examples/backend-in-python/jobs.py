"""Jobs of the service: how they are called, and what they execute."""

import hashlib
import re
from typing import Any

from options import invalid
from wit_world.imports import random
from wit_world.imports.model import WorkerCommand

Spec = dict[str, Any]

# The label that tells one launch from another.
LAUNCH = "launch"

# Where a worker's last argument travels. The service shows command lines to all who may ask.
_ARGUMENT = "DAGSTER_WORKER_ARGUMENT"
_LONGEST_KEY = 80


def run_id(run_id: str, attempt: int) -> str:
    """A run's job."""
    return _with_attempt(f"dagster-run-{run_id}", attempt)


def step_id(run_id: str, step_key: str, attempt: int) -> str:
    """A step's job."""
    return _with_attempt(f"dagster-step-{run_id}-{_slug(step_key)}", attempt)


def script_id(run_id: str, nonce: str) -> str:
    """A script's job."""
    return f"dagster-pipes-{run_id}-{nonce}"


def _with_attempt(name: str, attempt: int) -> str:
    return f"{name}.{attempt}" if attempt else name


def _slug(key: str) -> str:
    """A step's key may hold any character.

    What does not fit into an id is replaced, and a hash of the whole tells it from its likes.
    """
    plain = re.sub("[^A-Za-z0-9_-]", "_", key[:_LONGEST_KEY])
    return plain if plain == key else f"{plain}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def of_worker(command: WorkerCommand, options: Spec, labels: dict[str, str]) -> Spec:
    """A worker of Dagster."""
    env = {}
    for entry in options.get("env_vars", []):
        name, separator, value = entry.partition("=")
        if not separator:
            invalid("env_vars", f"{entry!r} has no value", "write KEY=VALUE")
        env[name] = value
    # What the worker needs wins over what the user wants.
    env.update(command.env)
    argv = list(command.argv)
    if command.payload is not None:
        env[_ARGUMENT] = command.payload
        argv = ["sh", "-c", f'exec "$@" "${_ARGUMENT}"', "sh", *argv]
    return _spec(argv, env, labels, options)


def of_script(options: Spec, bootstrap: dict[str, str], labels: dict[str, str]) -> Spec:
    """A script that reports back through Dagster Pipes."""
    env = {**options.get("runtime_env", {}).get("env_vars", {}), **bootstrap}
    labels = {**options.get("metadata", {}), **labels}
    return _spec(["sh", "-c", options["entrypoint"]], env, labels, options)


def _spec(argv: list[str], env: dict[str, str], labels: dict[str, str], options: Spec) -> Spec:
    # The interpreter's own randomness was drawn when the component was built.
    labels = {**labels, LAUNCH: f"{random.get_random_u64():016x}"}
    where = {"directory": options["directory"]} if "directory" in options else {}
    return {"argv": argv, "env": env, "labels": labels, **where}
