"""The program of the doctor's Ray job. Its text is sent, because Ray may lack this package.

It prints one line for each report. `sys.argv[1]` is a JSON object with the instance to open.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import socket
import sys
from typing import Any

MARKER = "DAGSTER_RAY_DOCTOR "
PACKAGES = ("dagster", "ray", "dagster-ray-wasm", "dagster-ray")


def report(**facts: object) -> None:
    sys.stdout.write(MARKER + json.dumps(facts) + "\n")
    sys.stdout.flush()


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def storage(given: dict[str, Any]) -> str | None:
    """Opens the instance as a run worker does, and returns what is wrong."""
    from dagster import DagsterInstance

    from dagster_ray.dagster_internals import InstanceRef, deserialize_value

    ref = deserialize_value(given["instance"], InstanceRef)
    for data in (ref.run_storage_data, ref.event_storage_data, ref.storage_data):
        # SQLite would create an empty database.
        folder = data.config_dict.get("base_dir") if data and "qlite" in data.class_name else None
        if isinstance(folder, str) and not os.path.isdir(folder):  # noqa: PTH112
            return f"the directory {folder} of the SQLite storage does not exist there"
    with DagsterInstance.from_ref(ref) as instance:
        read = getattr(instance.run_storage, "get_run_storage_id", None)
        if read is not None and given["storage_id"] and read() != given["storage_id"]:
            return "it opens another database than this machine"
        instance.get_runs_count()
    return None


def main(given: dict[str, Any]) -> None:
    found = {package: version(package) for package in PACKAGES}
    report(
        host=socket.gethostname(),
        python=platform.python_version(),
        versions=found,
        program=shutil.which("dagster"),
    )
    if given["instance"] is None or not found["dagster"] or not found["dagster-ray-wasm"]:
        return
    try:
        report(storage=storage(given))
    except Exception as error:
        # A driver of a database has exceptions of its own.
        report(storage=f"{type(error).__name__}: {error}")


main(json.loads(sys.argv[1]))
