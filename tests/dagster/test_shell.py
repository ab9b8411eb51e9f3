"""Command lines that a shell would make something else of."""

import json
from pathlib import Path

import pytest
from dagster_ray.backend import Backend, Connection
from processes import wait_for
from ray_head import RayHead

HOSTILE = "it's $(touch injected) `touch injected` \"; touch injected; echo 'x' \\ \n& | > injected"


@pytest.mark.parametrize("role", ["launcher", "executor"])
def test_arguments_arrive_as_they_are(ray_head: RayHead, tmp_path: Path, role: str) -> None:
    """W17, L17: programs and arguments with quotes, spaces and commands in them are only text."""
    place = tmp_path / "it's a $(touch injected) place"
    place.mkdir()
    program = place / "say; touch injected"
    program.write_text('#!/bin/sh\nprintf "%s\\0" "$@" > "$(dirname "$0")/said"\n')
    program.chmod(0o755)
    step = role == "executor"
    spec = {
        "run_id": f"{role}-shell",
        "attempt": 0,
        "job_name": "it's a job",
        "code_location": HOSTILE,
        "command": {
            "argv": [str(program), HOSTILE, ""],
            "payload": None if step else f"payload: {HOSTILE}",
            "env": [],
        },
        "tags": [],
        "options": json.dumps({"runtime_env": {"env_vars": {"HOME": str(tmp_path)}}}),
    }
    backend = Backend(Connection(backend="existing", address=ray_head.url))
    if step:
        ref = backend.call("executor.launch", {"step": {**spec, "step_key": "it's[a step]"}})
    else:
        ref = backend.call("launcher.launch", {"run": spec})
    name = ref["job"]["submission_id"]

    def ended() -> bool:
        status = ray_head.request(f"/api/jobs/{name}")["status"]
        assert status != "FAILED", ray_head.request(f"/api/jobs/{name}/logs")
        return status == "SUCCEEDED"

    wait_for("the job", ended, 60)
    said = (place / "said").read_bytes().decode().split("\0")[:-1]
    assert said == [HOSTILE, ""] + ([] if step else [f"payload: {HOSTILE}"])
    entrypoint = ray_head.request(f"/api/jobs/{name}")["entrypoint"]
    assert "payload:" not in entrypoint
    assert not list(tmp_path.rglob("injected"))
