"""The backend `local`: starts Ray on this machine when a run needs it, and stops it at exit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import command_lines, free_port, wait_for

STORY = """
import json, sys, time, urllib.request
from pathlib import Path
import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.launcher import LaunchRunContext
from dagster._core.test_utils import create_run_for_test

if __name__ == "__main__":
    home, jobs = sys.argv[1:]
    instance = dg.DagsterInstance.from_config(home)
    job = ReconstructableJob.for_file(jobs, "single")
    run = create_run_for_test(
        instance,
        job_name="single",
        job_code_origin=job.get_python_origin(),
        status=dg.DagsterRunStatus.STARTING,
    )
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    while not instance.get_run_by_id(run.run_id).is_finished:
        time.sleep(0.2)
    status = instance.get_run_by_id(run.run_id).status.value
    jobs = instance.run_launcher.client.list_jobs()
    print(json.dumps([status, sorted(job.submission_id for job in jobs), run.run_id]))
"""


@pytest.mark.slow
def test_ray_is_started_for_a_run_and_stopped_at_exit(tmp_path: Path) -> None:
    port = free_port()
    home = tmp_path / "home"
    home.mkdir()
    launcher = {
        "module": "dagster_ray",
        "class": "RayRunLauncher",
        "config": {"backend": "local", "backend_config": {"dashboard_port": port}},
    }
    settings = {"telemetry": {"enabled": False}, "run_launcher": launcher}
    (home / "dagster.yaml").write_text(json.dumps(settings))
    story = tmp_path / "story.py"
    story.write_text(STORY)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(
        [sys.executable, str(story), str(home), str(Path(__file__).parent / "code/steps.py")],
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, "PATH": path, "HOME": str(tmp_path)},
    )
    assert result.returncode == 0, result.stderr
    status, jobs, run_id = json.loads(result.stdout.splitlines()[-1])
    assert status == "SUCCESS"
    assert jobs == [f"dagster-run-{run_id}", f"dagster-step-{run_id}-quick"]

    def ray_processes() -> list[str]:
        return [line for line in command_lines().values() if f"--dashboard-port={port}" in line]

    wait_for("the end of Ray", lambda: not ray_processes())
