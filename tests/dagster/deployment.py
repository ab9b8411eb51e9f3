"""A real Dagster deployment: code server, daemon and webserver in separate processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from dagster import DagsterInstance, DagsterRunStatus
from processes import free_port, kill, wait_for

LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message stack }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""
TERMINATE = """
mutation Terminate($run: String!) {
  terminateRun(runId: $run) {
    __typename
    ... on TerminateRunFailure { message }
    ... on PythonError { message stack }
  }
}
"""
LOCATION = "it's a place"


class Deployment:
    def __init__(
        self,
        root: Path,
        settings: dict[str, Any],
        jobs: Path | None = None,
        container_context: dict[str, Any] | None = None,
    ) -> None:
        """Starts the processes. `jobs` is the file with the definitions; default: code/runs.py."""
        jobs = jobs or Path(__file__).parent / "code/runs.py"
        self.root = root
        self.home = root / "home"
        self.home.mkdir()
        (self.home / "dagster.yaml").write_text(yaml.safe_dump(settings))
        code = root / "code"
        shutil.copytree(jobs.parent, code)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, tuple[str, ...]] = {}
        self._environment = {**os.environ, "DAGSTER_HOME": str(self.home)}
        grpc, self._web = free_port(), free_port()
        workspace = root / "workspace.yaml"
        server = {"host": "127.0.0.1", "port": grpc, "location_name": LOCATION}
        workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
        code_server = ("dagster", "api", "grpc", "--python-file", str(code / jobs.name))
        self._commands = {
            "code server": (
                *code_server,
                *("--working-directory", str(code), "--host", "127.0.0.1", "--port", str(grpc)),
                *("--location-name", LOCATION),
                *("--container-context", json.dumps(container_context or {})),
            ),
            "daemon": ("dagster-daemon", "run", "-w", str(workspace)),
            "webserver": (
                *("dagster-webserver", "-h", "127.0.0.1", "-p", str(self._web)),
                *("-w", str(workspace)),
            ),
        }
        self._health_check = ("dagster", "api", "grpc-health-check", "--port", str(grpc))
        self.start("code server")
        self.start("daemon")
        self.start("webserver")
        self.instance = DagsterInstance.from_config(str(self.home))

    def start(self, name: str) -> None:
        """Starts `code server`, `daemon` or `webserver`, after the end of the last one.

        Waits until a server answers, but not for the daemon.
        """
        if name in self._processes:
            self._processes[name].wait(60)
        program, *arguments = self._commands[name]
        self._processes[name] = subprocess.Popen(
            [self._executable(program), *arguments],
            env=self._environment,
            stdout=self._log(),
            stderr=subprocess.STDOUT,
            cwd=self.root,
            start_new_session=True,
        )
        if name == "code server":
            wait_for("the code server", self._code_server_answers, 90)
        elif name == "webserver":
            wait_for("the webserver", self._is_up, 90)

    def signal(self, name: str, sign: int = signal.SIGKILL) -> None:
        """Sends a signal to `code server`, `daemon` or `webserver`."""
        self._processes[name].send_signal(sign)

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def _executable(self, program: str) -> str:
        return str(Path(sys.executable).parent / program)

    def _log(self) -> BinaryIO:
        return (self.root / "processes.log").open("ab")

    def _code_server_answers(self) -> bool:
        program, *arguments = self._health_check
        checked = subprocess.run(
            [self._executable(program), *arguments],
            env=self._environment,
            stdout=self._log(),
            stderr=self._log(),
        )
        return checked.returncode == 0

    def _is_up(self) -> bool:
        try:
            return "data" in self.query("{ version }")
        except OSError:
            return False

    def query(self, text: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._web}/graphql",
            json.dumps({"query": text, "variables": variables or {}}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.loads(response.read())

    def launch(
        self, job: str, ops: dict[str, Any] | None = None, tags: dict[str, str] | None = None
    ) -> str:
        """Launches a job through GraphQL and returns the run id."""
        selector = {
            "repositoryLocationName": LOCATION,
            "repositoryName": "__repository__",
            "jobName": job,
        }
        pairs = [{"key": key, "value": value} for key, value in (tags or {}).items()]
        params = {
            "selector": selector,
            "runConfigData": {"ops": ops or {}},
            "executionMetadata": {"tags": pairs},
        }
        answer = self.query(LAUNCH, {"params": params})["data"]["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return answer["run"]["runId"]

    def terminate(self, run_id: str) -> None:
        answer = self.query(TERMINATE, {"run": run_id})["data"]["terminateRun"]
        assert answer["__typename"] == "TerminateRunSuccess", answer

    def status(self, run_id: str) -> DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    def wait_until(self, run_id: str, status: DagsterRunStatus, seconds: float = 90) -> None:
        def reached() -> bool:
            now = self.status(run_id)
            ended = now in (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE)
            assert not ended or now == status, "\n".join(self.messages(run_id))
            return now == status

        wait_for(f"run {run_id} as {status}", reached, seconds)

    def messages(self, run_id: str) -> list[str]:
        return [entry.user_message or entry.message for entry in self.instance.all_logs(run_id)]

    def stop(self) -> None:
        self.instance.dispose()
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                kill(process.pid)
                process.wait()
