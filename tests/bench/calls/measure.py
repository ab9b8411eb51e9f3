"""Measures calls into a component. Prints microseconds by name, as JSON.

`python measure.py TIMES`. Every call has a new instance of the component `existing`. None sends a
request.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dagster_ray
from dagster_ray import _native

EXISTING = Path(dagster_ray.__file__).parent / "components" / "existing.wasm"
RUN = {
    "deployment": "d",
    "run_id": "0" * 36,
    "attempt": 0,
    "job_name": "job",
    "code_location": None,
    "command": {"argv": ["dagster", "api", "execute_run"], "payload": None, "env": []},
    "tags": [],
    "options": "{}",
}


def median(call: Callable[[], object], times: int) -> float:
    for _ in range(20):
        call()
    found: list[float] = []
    for _ in range(times):
        before = time.perf_counter()
        call()
        found.append(time.perf_counter() - before)
    return statistics.median(found) * 1e6


def main() -> None:
    times = int(sys.argv[1])
    component = _native.Component(EXISTING, settings={"address": "http://127.0.0.1:1"})
    before = time.perf_counter()
    component.call("launcher.check", '{"runs": []}')
    first = time.perf_counter() - before
    plan = json.dumps({"run": RUN})
    found = {
        "first": first * 1e6,
        "check": median(lambda: component.call("launcher.check", '{"runs": []}'), times),
        "plan": median(lambda: component.call("launcher.plan", plan), times),
        "describe": median(lambda: component.call("describe.describe"), times),
        "json": median(lambda: json.loads(json.dumps({"run": RUN})), times),
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
