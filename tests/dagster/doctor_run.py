"""Runs `dagster-ray doctor` in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

Checks = dict[str, dict[str, Any]]


def doctor(*arguments: str, home: str | None = None, **variables: str) -> tuple[int, Checks]:
    """Returns the exit code, and the checks by name. A name has its worst outcome."""
    done = run("--json", *arguments, home=home, variables=variables)
    assert done.stdout, done.stderr
    found: Checks = {}
    order = ["ok", "not-checked", "warning", "failed"]
    for check in json.loads(done.stdout)["checks"]:
        known = found.get(check["name"])
        if known is None or order.index(check["outcome"]) > order.index(known["outcome"]):
            found[check["name"]] = check
    return done.returncode, found


def run(
    *arguments: str, home: str | None = None, variables: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    if home is not None:
        environment["DAGSTER_HOME"] = home
    command = [sys.executable, "-m", "dagster_ray", "doctor", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)


def outcomes(checks: Checks) -> dict[str, str]:
    return {name: check["outcome"] for name, check in checks.items()}


def shown(checks: Checks) -> str:
    """Returns what is not as it should be, for messages of assertions."""
    return "\n".join(
        f"{name}: {check['outcome']}: {check['message']}"
        for name, check in checks.items()
        if check["outcome"] != "ok"
    )
