"""The backend `local`: one Ray head for all processes of a user, until nothing uses it."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dagster import DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus
from processes import command_lines, descendants, free_port, kill, wait_for

IDLE_SECONDS = 3
# The head stops within 10 s after the idle time, and the supervisor kills what is left.
STOPPED_SECONDS = IDLE_SECONDS + 20

CODE = """
import sys, time
from pathlib import Path
import dagster as dg
from dagster_ray import ray_executor

@dg.op
def wait(context):
    while not Path(__file__).with_name("go").exists():
        time.sleep(0.1)

@dg.job(executor_def=dg.in_process_executor)
def waiting():
    wait()

@dg.op
def quick():
    pass

@dg.job(executor_def=dg.in_process_executor)
def short():
    quick()

@dg.op(tags={"dagster-ray/config": {"isolation": "job"}})
def slow(before):
    pass

@dg.op
def first():
    return 1

@dg.job(executor_def=ray_executor.configured({"isolation": "task"}))
def tasks():
    slow(first())

defs = dg.Definitions(jobs=[waiting, short, tasks])
"""

# Launches a run and waits for its end. With `stay`, it then does nothing until it is killed.
STORY = """
import json, sys, time, urllib.request
from pathlib import Path
import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.launcher import LaunchRunContext
from dagster._core.test_utils import create_run_for_test

if __name__ == "__main__":
    home, jobs, name, stay = sys.argv[1:]
    instance = dg.DagsterInstance.from_config(home)
    job = ReconstructableJob.for_file(jobs, name)
    run = create_run_for_test(
        instance,
        job_name=name,
        job_code_origin=job.get_python_origin(),
        status=dg.DagsterRunStatus.STARTING,
    )
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    while not instance.get_run_by_id(run.run_id).is_finished:
        time.sleep(0.2)
    status = instance.get_run_by_id(run.run_id).status.value
    jobs = instance.run_launcher.client.list_jobs()
    print(json.dumps([status, sorted(job.submission_id for job in jobs), run.run_id]), flush=True)
    while stay == "stay":
        time.sleep(1)
"""


class LocalRay:
    """A Dagster home with the backend `local` on a port of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = free_port()
        self.home = root / "home"
        self.home.mkdir()
        config = {"dashboard_port": self.port, "idle_seconds": IDLE_SECONDS}
        launcher = {
            "module": "dagster_ray",
            "class": "RayRunLauncher",
            "config": {"backend": "local", "backend_config": config},
        }
        settings = {
            "telemetry": {"enabled": False},
            "run_launcher": launcher,
            # `dagster job launch` launches the run itself, and no daemon does.
            "run_coordinator": {
                "module": "dagster._core.run_coordinator",
                "class": "DefaultRunCoordinator",
            },
        }
        (self.home / "dagster.yaml").write_text(json.dumps(settings))
        # Dagster does not create the tables of one database in two processes at once.
        with DagsterInstance.from_config(str(self.home)) as instance:
            instance.get_runs()
            instance.all_asset_keys()
        (root / "jobs.py").write_text(CODE)
        (root / "story.py").write_text(STORY)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.env = {**os.environ, "PATH": path, "HOME": str(root), "DAGSTER_HOME": str(self.home)}
        self.users: list[subprocess.Popen[str]] = []
        # Of this head: the processes that were seen, and the pipe that its users keep open.
        self.heads: set[int] = set()
        self.lease: Path | None = None

    def start(self, *command: str) -> "subprocess.Popen[str]":
        with (self.root / "errors.log").open("ab") as errors:
            user = subprocess.Popen(
                [sys.executable, *command],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=self.env,
                cwd=self.root,
            )
        self.users.append(user)
        return user

    def story(
        self, job: str = "short", stay: bool = False, jobs: Path | None = None
    ) -> "subprocess.Popen[str]":
        file = jobs or self.root / "jobs.py"
        arguments = (str(self.home), str(file), job, "stay" if stay else "-")
        return self.start(str(self.root / "story.py"), *arguments)

    def look(self) -> bool:
        """Notes the processes that are a head on this port. Returns whether there is one."""
        lines = command_lines().items()
        found = {pid for pid, line in lines if f"--dashboard-port={self.port}" in line}
        starts = {pid for pid in found if " start --head" in command_lines().get(pid, "")}
        self.heads |= starts
        for pid in starts:
            self.lease = lease_of(pid) or self.lease
        return bool(starts)

    def supervisor(self) -> int:
        assert self.lease is not None
        return json.loads(self.lease.with_name("session.json").read_text())["supervisor"]

    def left(self) -> list[str]:
        """Returns what is left of the head: its processes, its port and its files."""
        assert self.lease is not None
        with socket.socket() as probe:
            ports = [] if probe.connect_ex(("127.0.0.1", self.port)) else [f"port {self.port}"]
        folder = self.lease.parent
        files = [str(file) for file in (folder, folder.with_suffix(".lock")) if file.exists()]
        lines = command_lines()
        processes = [line for pid, line in lines.items() if lease_of(pid) == self.lease]
        return ports + files + processes

    def expect_nothing_left(self) -> None:
        wait_for("the end of Ray", lambda: not self.left(), STOPPED_SECONDS)


def lease_of(pid: int) -> Path | None:
    """Returns the lease of the head that a process belongs to. Its processes inherit it."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    own = [text for text in variables if text.startswith(b"DAGSTER_RAY_LEASE=")]
    return Path(own[0].partition(b"=")[2].decode()) if own else None


@pytest.fixture
def local_ray(tmp_path: Path):
    ray = LocalRay(tmp_path)
    yield ray
    for user in ray.users:
        user.kill()
        user.wait()
    (tmp_path / "go").touch()
    for pid in [pid for pid in command_lines() if ray.lease and lease_of(pid) == ray.lease]:
        kill(pid)


@pytest.mark.slow
def test_ray_is_started_for_a_run_and_stops_after_the_last_process_that_used_it(
    local_ray: LocalRay,
) -> None:
    story = local_ray.story("single", jobs=Path(__file__).parent / "code/steps.py")
    wait_for("the head", local_ray.look, 60)
    output, _ = story.communicate(timeout=180)
    assert story.returncode == 0, (local_ray.root / "errors.log").read_text()
    status, jobs, run_id = json.loads(output.splitlines()[-1])
    assert status == "SUCCESS"
    assert jobs == [f"dagster-run-{run_id}", f"dagster-step-{run_id}-quick"]
    local_ray.expect_nothing_left()


@pytest.mark.slow
@pytest.mark.parametrize("in_ray", [pytest.param(True, marks=pytest.mark.nightly), False])
def test_steps_as_tasks_use_the_head_of_the_steps_as_jobs(
    local_ray: LocalRay, in_ray: bool
) -> None:
    """Also if the run worker is in no Ray job: it connects to the head that it starts."""
    if in_ray:
        user = local_ray.story("tasks")
    else:
        file = str(local_ray.root / "jobs.py")
        user = local_ray.start("-m", "dagster", "job", "execute", "-f", file, "-j", "tasks")
    wait_for("the head", local_ray.look, 60)
    user.communicate(timeout=180)
    assert user.returncode == 0, (local_ray.root / "errors.log").read_text()
    assert local_ray.look() and len(local_ray.heads) == 1
    instance = DagsterInstance.from_config(str(local_ray.home))
    [run] = instance.get_runs()
    assert run.status == DagsterRunStatus.SUCCESS
    started = instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_WORKER_STARTED)
    assert {e.step_key: "Ray task" in e.message for e in started} == {"first": True, "slow": False}
    local_ray.expect_nothing_left()


@pytest.mark.nightly
@pytest.mark.slow
def test_a_run_continues_after_the_process_that_launched_it(local_ray: LocalRay) -> None:
    launched = local_ray.start(
        *("-m", "dagster", "job", "launch", "-f", str(local_ray.root / "jobs.py"), "-j", "waiting")
    )
    output, _ = launched.communicate(timeout=180)
    assert launched.returncode == 0, output + (local_ray.root / "errors.log").read_text()
    assert local_ray.look()
    # Only the job uses the head, for longer than an unused head lives.
    time.sleep(2 * IDLE_SECONDS + 2)
    assert local_ray.look() and len(local_ray.heads) == 1
    instance = DagsterInstance.from_config(str(local_ray.home))

    def run() -> DagsterRun:
        return instance.get_runs()[0]

    assert not run().is_finished
    (local_ray.root / "go").touch()
    wait_for("the end of the run", lambda: run().is_finished, 60)
    assert run().status == DagsterRunStatus.SUCCESS
    local_ray.expect_nothing_left()


@pytest.mark.slow
def test_processes_that_start_at_once_share_a_head_that_ends_when_they_are_killed(
    local_ray: LocalRay,
) -> None:
    users = [local_ray.story(stay=True) for _ in range(2)]
    statuses = []
    for user in users:
        # Notes every head that is started meanwhile.
        while not (ready := bool(local_ray.look()) and has_output(user)):
            assert user.poll() is None, (local_ray.root / "errors.log").read_text()
            time.sleep(0.1)
        assert ready and user.stdout is not None
        statuses.append(json.loads(user.stdout.readline())[0])
    assert statuses == ["SUCCESS", "SUCCESS"]
    assert len(local_ray.heads) == 1
    family = descendants(local_ray.supervisor())
    assert len(family) > 5
    users[0].kill()
    time.sleep(2 * IDLE_SECONDS)
    assert local_ray.look()
    users[1].kill()
    for user in users:
        user.wait()
    local_ray.expect_nothing_left()
    assert not family & command_lines().keys()


@pytest.mark.nightly
@pytest.mark.slow
def test_a_killed_supervisor_ends_the_head_and_its_files_are_replaced(local_ray: LocalRay) -> None:
    user = local_ray.story(stay=True)
    assert user.stdout is not None
    assert json.loads(user.stdout.readline())[0] == "SUCCESS"
    assert local_ray.look()
    (first,) = local_ray.heads
    assert local_ray.lease is not None
    kill(local_ray.supervisor(), signal.SIGKILL)
    wait_for("the end of the head", lambda: not local_ray.look(), STOPPED_SECONDS)
    assert local_ray.lease.exists()
    second = local_ray.story()
    output, _ = second.communicate(timeout=180)
    assert json.loads(output.splitlines()[-1])[0] == "SUCCESS"
    user.kill()
    user.wait()
    local_ray.expect_nothing_left()
    assert first in local_ray.heads


def has_output(process: "subprocess.Popen[str]") -> bool:
    assert process.stdout is not None
    return bool(select.select([process.stdout], [], [], 0)[0])
