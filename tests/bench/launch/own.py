"""Measures launches and checks through the component `existing`. Prints a JSON object.

`python own.py CASE URL NUMBER`. The server at the URL has Ray's Jobs API and executes nothing.
"""

import json
import sys
import time
from typing import Any

from dagster_ray.backend import Backend
from dagster_ray.configs import BackendConfig
from dagster_ray.contract import ExecutorClient, StepRef, StepSpec


def spec(number: int) -> StepSpec:
    environment = [["DAGSTER_COMPRESSED_EXECUTE_STEP_ARGS", "x" * 1000]]
    command: Any = {"argv": ["dagster", "api", "execute_step"], "payload": None, "env": environment}
    return {
        "deployment": "d",
        "run_id": "0" * 36,
        "step_key": f"step_{number}",
        "attempt": 0,
        "job_name": "job",
        "code_location": None,
        "command": command,
        "tags": [],
        "options": "{}",
    }


def launched(client: ExecutorClient, number: int) -> list[StepRef]:
    """Launches steps at once, each with a call of its own, as the executor does."""
    calls = [client.start_launch([spec(one)]) for one in range(number)]
    references: list[StepRef] = []
    for call in calls:
        [placement] = call.result()
        assert isinstance(placement, dict) and "job" in placement
        references.append(placement["job"])
    return references


def main() -> None:
    case, url, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
    client = ExecutorClient(Backend(BackendConfig(backend="existing", address=url)))
    # Loads the component and opens a connection.
    references = launched(client, 1 if case == "launch" else number)
    client.check(references[:1])
    before = time.perf_counter()
    if case == "launch":
        launched(client, number)
    else:
        statuses = client.check(references)
        assert all(status["state"] == "running" for status in statuses)
    sys.stdout.write(json.dumps({"seconds": time.perf_counter() - before}) + "\n")


if __name__ == "__main__":
    main()
