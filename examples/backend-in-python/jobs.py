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
_LONGEST_NAME = 60
_ID = re.compile("[A-Za-z0-9._-]{1,200}")


def run_id(run_id: str, attempt: int) -> str:
    """A run's job."""
    return f"dagster-run-{_slug(run_id)}.{attempt}"


def step_id(run_id: str, step_key: str, attempt: int) -> str:
    """A step's job."""
    return f"dagster-step-{_slug(run_id)}.{_slug(step_key)}.{attempt}"


def script_id(run_id: str, nonce: str) -> str:
    """A script's job."""
    return f"dagster-pipes-{_slug(run_id)}.{_slug(nonce)}"


def is_id(text: str) -> bool:
    """What the service takes as an id."""
    return _ID.fullmatch(text) is not None


def _slug(name: str) -> str:
    """A step's key may hold any character.

    What does not fit into an id is replaced, and a hash of the whole tells it from its likes.
    """
    plain = re.sub("[^A-Za-z0-9_-]", "_", name[:_LONGEST_NAME])
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def of_worker(command: WorkerCommand, options: Spec, labels: dict[str, str]) -> Spec:
    """A worker of Dagster."""
    env = {}
    for place, entry in enumerate(options.get("env_vars", [])):
        name, separator, value = entry.partition("=")
        if not separator:
            # Not the entry itself: it may hold a secret, and errors are shown to many.
            invalid(f"env_vars[{place}]", "has no `=`", "write KEY=VALUE")
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
