"""The spec of a run, for tests that call a component without Dagster."""

from dagster_ray.contract import RunSpec

RUN: RunSpec = {
    "deployment": "d",
    "run_id": "r",
    "attempt": 0,
    "job_name": "j",
    "command": {"argv": ["true"], "env": []},
    "tags": [["a", "b"]],
    "options": "{}",
}
# The arguments of `launcher.plan`.
PLAN = {"run": RUN}
