"""Arguments with shell metacharacters reach the program unchanged."""

import json
from pathlib import Path

import pytest
from dagster_ray.backend import Backend
from dagster_ray.configs import BackendConfig
from processes import wait_for
from ray_head import RayHead

HOSTILE = "it's $(touch injected) `touch injected` \"; touch injected; echo 'x' \\ \n& | > injected"


@pytest.mark.parametrize("role", [pytest.param("launcher", marks=pytest.mark.nightly), "executor"])
def test_arguments_with_shell_metacharacters_arrive_unchanged(
    ray_head: RayHead, tmp_path: Path, role: str
) -> None:
    """No shell interprets quotes, spaces or commands in programs and arguments."""
    folder = tmp_path / "it's a $(touch injected) folder"
    folder.mkdir()
    program = folder / "record; touch injected"
    program.write_text('#!/bin/sh\nprintf "%s\\0" "$@" > "$(dirname "$0")/arguments"\n')
    program.chmod(0o755)
    step = role == "executor"
    spec = {
        "deployment": "d",
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
    backend = Backend(BackendConfig(backend="existing", address=ray_head.url))
    if step:
        steps = [{**spec, "step_key": "it's[a step]"}]
        [placement] = backend.call("executor.launch", {"steps": steps})
        ref = placement["job"]
    else:
        ref = backend.call("launcher.launch", {"run": spec})
    name = ref["job"]["submission_id"]

    def ended() -> bool:
        status = ray_head.request(f"/api/jobs/{name}")["status"]
        assert status != "FAILED", ray_head.request(f"/api/jobs/{name}/logs")
        return status == "SUCCEEDED"

    wait_for("the job", ended, 60)
    arguments = (folder / "arguments").read_bytes().decode().split("\0")[:-1]
    assert arguments == [HOSTILE, ""] + ([] if step else [f"payload: {HOSTILE}"])
    entrypoint = ray_head.request(f"/api/jobs/{name}")["entrypoint"]
    assert "payload:" not in entrypoint
    assert not list(tmp_path.rglob("injected"))
