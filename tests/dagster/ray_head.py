"""A real Ray cluster that is started for the tests.

`python ray_head.py FILE` starts a head for several test processes, describes it in a file, and
stops it at the end of the standard input.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
import venv
from pathlib import Path
from typing import Any

from processes import command_lines, descendants, free_port, kill, wait_for


class RunningHead:
    """A Ray head that is running: where it is, and what it says about its jobs."""

    def __init__(self, root: Path, port: int, gcs: str, client: str) -> None:
        self.root = root
        self.token_path = root / "token"
        self.token = self.token_path.read_text()
        # Ray runs pip for a runtime environment, and pip finds its packages here.
        self.wheels = root / "wheels"
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.gcs = gcs
        self.client = client

    @classmethod
    def read(cls, file: Path) -> "RunningHead":
        """Returns the head that `description` describes in a file."""
        found = json.loads(file.read_text())
        return cls(Path(found["root"]), found["port"], found["gcs"], found["client"])

    def description(self) -> str:
        """Returns the head as JSON, for other processes."""
        facts = {"root": str(self.root), "port": self.port, "gcs": self.gcs, "client": self.client}
        return json.dumps(facts)

    @property
    def environment(self) -> dict[str, str]:
        """Returns the variables with which a client process authenticates."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_path)}

    def request(self, path: str, method: str = "GET", body: object = None) -> Any:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.loads(response.read())

    def jobs(self, run_id: str | None = None) -> dict[str, dict[str, Any]]:
        """Returns the submitted jobs by submission id: those of one Dagster run, or all."""
        return {
            job["submission_id"]: job
            for job in self.request("/api/jobs/")
            if job.get("submission_id")
            and run_id in (None, (job.get("metadata") or {}).get("dagster/run-id"))
        }

    def submit(self, job: dict[str, Any]) -> None:
        self.request("/api/jobs/", "POST", job)

    def stop_job(self, submission_id: str) -> None:
        self.request(f"/api/jobs/{submission_id}/stop", "POST")


class RayHead(RunningHead):
    """A Ray head on free ports, with its own temporary directory and authentication token."""

    def __init__(self, root: Path, log: Path, *, watched: bool = True) -> None:
        """Starts the head. If `watched` (`ray start --block`), all of Ray ends with any process."""
        (root / "token").write_text(secrets.token_hex(16))
        (root / "wheels").mkdir()
        python = _own_environment(root / "python")
        ports = {
            name: str(free_port())
            for name in (
                "port",
                "ray-client-server-port",
                "dashboard-agent-listen-port",
                "dashboard-agent-grpc-port",
                "runtime-env-agent-port",
                "metrics-export-port",
            )
        }
        super().__init__(
            root,
            free_port(),
            f"127.0.0.1:{ports['port']}",
            f"ray://127.0.0.1:{ports['ray-client-server-port']}",
        )
        command = [
            *(str(python), "-m", "ray.scripts.scripts", "start", "--head"),
            *(["--block"] if watched else []),
            *("--node-ip-address", "127.0.0.1", "--dashboard-host", "127.0.0.1"),
            *("--dashboard-port", str(self.port), "--temp-dir", str(root / "ray")),
            # Logical resources: the examples request more than this machine has.
            *("--num-cpus", "16", "--num-gpus", "2", "--object-store-memory", "200000000"),
            *('--resources={"widget": 4}', "--disable-usage-stats"),
            *(f"--{name}={value}" for name, value in ports.items()),
        ]
        self._command = command
        self._variables = {
            **os.environ,
            **self.environment,
            # Ray starts workers by the name `dagster`, which must resolve to this environment.
            "PATH": f"{python.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
        }
        self._log = log.open("wb")
        self.start()

    def start(self) -> None:
        """Starts the head. After `kill`, the new head has the old address and another session."""
        self.process = subprocess.Popen(
            self._command,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=self._variables,
            start_new_session=True,
        )
        wait_for("Ray's dashboard", self._is_up, 90)

    def kill(self, *programs: str) -> None:
        """Kills the processes of Ray whose command line contains one of the texts, or all."""
        alive = command_lines()
        main = {pid for pid, line in alive.items() if str(self.root / "ray") in line}
        # A worker of Ray replaces its command line by a title.
        workers = {
            child
            for pid in main
            for child in descendants(pid)
            if alive.get(child, "").startswith("ray::")
        }
        for pid in main | workers:
            if not programs or any(program in alive[pid] for program in programs):
                kill(pid)

    def _is_up(self) -> bool:
        assert not self.process.poll(), f"Ray did not start: see {self._log.name}"
        try:
            return bool(self.request("/api/jobs/") is not None)
        except OSError:
            return False

    def restart_dashboard(self) -> None:
        """Kills Ray's dashboard and starts it again two seconds later."""
        [dashboard] = [
            Path(f"/proc/{pid}")
            for pid, line in command_lines().items()
            if str(self.root / "ray") in line and "dashboard/dashboard.py" in line
        ]
        command = (dashboard / "cmdline").read_bytes().split(b"\0")[:-1]
        pairs = (dashboard / "environ").read_bytes().split(b"\0")
        environment = dict(pair.split(b"=", 1) for pair in pairs if b"=" in pair)
        kill(int(dashboard.name))
        time.sleep(2)
        subprocess.Popen(
            command, env=environment, stdout=self._log, stderr=self._log, start_new_session=True
        )
        wait_for("Ray's dashboard", self._is_up, 90)

    def stop(self) -> list[str]:
        """Stops all processes of this Ray, and returns the command lines of those still alive."""
        pids = descendants(self.process.pid)
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        marker = str(self.root)
        alive = command_lines()
        for pid in {pid for pid in pids if pid in alive} | {
            pid for pid, line in alive.items() if marker in line and pid != os.getpid()
        }:
            kill(pid)
        self._log.close()
        deadline = time.monotonic() + 10
        while self._remaining() and time.monotonic() < deadline:
            time.sleep(0.1)
        return self._remaining()

    def _remaining(self) -> list[str]:
        return [line for line in command_lines().values() if str(self.root / "ray") in line]


def _own_environment(folder: Path) -> Path:
    """Creates a virtual environment that sees this one's packages, and returns its interpreter.

    For a runtime environment with `pip`, Ray copies the environment in which it runs. A copy of
    this one would take more than a gigabyte.
    """
    venv.create(folder, symlinks=True)
    programs = folder / "bin"
    [packages] = folder.glob("lib/python*/site-packages")
    # `addsitedir` also processes the .pth files of this environment.
    here = sysconfig.get_path("purelib")
    (packages / "tests.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    program = programs / "dagster"
    _, _, text = (Path(sys.executable).parent / "dagster").read_text().partition("\n")
    program.write_text(f"#!{programs / 'python'}\n{text}")
    program.chmod(0o755)
    return programs / "python"


def _serve(file: Path) -> None:
    root = Path(tempfile.mkdtemp(prefix="dr-", dir="/tmp"))
    head = RayHead(root, root / "head.log")
    try:
        file.write_text(head.description())
        sys.stdout.write(f"{file}\n")
        sys.stdout.flush()
        sys.stdin.read()
    finally:
        left = head.stop()
        shutil.rmtree(root, ignore_errors=True)
    assert not left, left


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
