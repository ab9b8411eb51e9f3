"""The operations that faults strike, each on a real Ray."""

import http.client
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagster import DagsterRunStatus
from lab import CODE, Lab
from processes import wait_for


@dataclass(frozen=True)
class Requests:
    """The requests to Ray's dashboard that an operation depends on."""

    method: str
    path: str
    # A text in the body of the request.
    contains: str = ""


class Operation(ABC):
    """One operation. The fault begins between `prepare` and `act`, and ends before `finish`."""

    requests: Requests
    # The run, or an empty text before there is one.
    run_id: str = ""
    # Whether the operation is over when `finish` returns, so that nothing may be left.
    ends: bool = True

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.marks = lab.folder()

    def prepare(self) -> None:
        """Brings the operation to the moment before the fault."""
        return

    @abstractmethod
    def act(self) -> None:
        """Does what the fault disturbs. Does not wait for its result."""

    @abstractmethod
    def finish(self) -> str:
        """Lets the work end, and returns how it ended."""

    def messages_for_the_user(self) -> str:
        """Returns what the user can read about the operation."""
        return "\n".join(self.lab.deployment.messages(self.run_id)) if self.run_id else ""

    def release(self) -> None:
        (self.marks / "go").touch()

    def kill(self, sign: signal.Signals, *, of_step: bool) -> None:
        """Kills the process that executes the run or the step."""
        self.lab.kill_workers(self.run_id, of_step=of_step, sign=sign)


class _Run(Operation):
    """An operation on a run. It ends with the state of the run."""

    job = "stepped"

    def _launch(self) -> None:
        self.run_id = self.lab.launch(self.job, self.marks)

    def finish(self) -> str:
        self.release()
        return self.lab.wait_for_end(self.run_id).value


class Launch(_Run):
    """The daemon launches a run."""

    job = "alone"
    requests = Requests("POST", "/api/jobs/", "dagster-run-")

    def act(self) -> None:
        self._launch()


class StepLaunch(_Run):
    """The run worker launches a step."""

    requests = Requests("POST", "/api/jobs/", "dagster-step-")

    def act(self) -> None:
        self._launch()


class UnderWay(_Run):
    """A run of its own is under way, with one step, and the fault may end it."""

    requests = Requests("GET", "/api/jobs/.*")

    def prepare(self) -> None:
        self._launch()
        self.lab.wait_for_body(self.run_id)

    def act(self) -> None:
        return


class Standing(_Run):
    """A run that the faults share is under way, with one step, and must stay so.

    Several health checks of the run and of its step happen during the fault and after it.
    """

    requests = Requests("GET", "/api/jobs/.*")
    ends = False

    def prepare(self) -> None:
        self.run_id = self.lab.standing_run()

    def act(self) -> None:
        return

    def finish(self) -> str:
        time.sleep(4)
        messages = self.lab.deployment.messages(self.run_id)
        assert not any("Resuming" in message for message in messages), messages
        return self.lab.deployment.status(self.run_id).value


class Timeout(UnderWay):
    """A run with a maximum runtime is under way."""

    def _launch(self) -> None:
        self.run_id = self.lab.launch("stepped", self.marks, {"dagster/max_runtime": "15"})

    def finish(self) -> str:
        return self.lab.wait_for_end(self.run_id).value


class Resume(_Run):
    """The daemon resumes a run whose worker was killed."""

    requests = Requests("POST", "/api/jobs/", "dagster-run-")

    def prepare(self) -> None:
        self._launch()
        self.lab.wait_for_body(self.run_id)

    def act(self) -> None:
        self.lab.kill_workers(self.run_id, of_step=False)

    def finish(self) -> str:
        def resumed_or_over() -> bool:
            over = self.lab.deployment.status(self.run_id) == DagsterRunStatus.FAILURE
            return over or bool(self.lab.workers(self.run_id, of_step=False))

        wait_for("the second worker", resumed_or_over, 90)
        # More than one health check of the resumed run.
        time.sleep(6)
        return super().finish()


class Terminate(_Run):
    """The web server terminates a run."""

    requests = Requests("POST", "/api/jobs/.*/stop")

    def prepare(self) -> None:
        self._launch()
        self.lab.wait_for_body(self.run_id)

    def act(self) -> None:
        # The request ends with the web server, which a fault may kill, so nothing waits for it.
        self._client = threading.Thread(target=self._request, daemon=True)
        self._client.start()

    def _request(self) -> None:
        with suppress(AssertionError, OSError, http.client.HTTPException):
            self.lab.deployment.terminate(self.run_id)

    def finish(self) -> str:
        status = self.lab.wait_for_end(self.run_id)
        self._client.join(60)
        return status.value


def _scripts(lab: Lab, marks: Path) -> list[dict[str, Any]]:
    """Returns the Ray jobs of an operation's scripts, the first one first."""
    jobs = [
        job
        for job in lab.head.jobs().values()
        if (job.get("metadata") or {}).get("mark") == str(marks)
    ]
    return sorted(jobs, key=lambda job: job["start_time"] or 0)


class RunFollows(_Run):
    """A run worker follows a script. A second worker executes the step again."""

    job = "scripted"
    requests = Requests("GET", "/api/v0/logs/stream.*")

    def _launch(self) -> None:
        self.run_id = self.lab.launch(
            self.job, self.marks, names=("runs_script",), address=self.lab.proxy.url
        )

    def prepare(self) -> None:
        self._launch()

        def is_running() -> bool:
            return any(job["status"] == "RUNNING" for job in _scripts(self.lab, self.marks))

        wait_for("the script", is_running, 90)

    def act(self) -> None:
        return

    def finish(self) -> str:
        status = self.lab.wait_for_end(self.run_id)
        first, *others = _scripts(self.lab, self.marks)
        for second in others:
            assert first["end_time"] <= second["start_time"], "two scripts at a time"
            first = second
        return f"{status.value} {[job['status'] for job in _scripts(self.lab, self.marks)]}"


class Script(Operation):
    """A process follows a script that runs as a Ray job. It ends with the process's result."""

    requests = Requests("GET", "/api/jobs/dagster-pipes-.*")
    messages, pause = 60, 0.1

    def _start(self) -> None:
        self.output = self.marks / "output"
        script = f"{sys.executable} {CODE / 'script.py'} {self.messages} {self.pause}"
        arguments = (self.lab.proxy.url, script, str(self.marks))
        self._process = subprocess.Popen(
            [sys.executable, str(CODE / "follows_script.py"), *arguments],
            stdout=self.output.open("wb"),
            stderr=subprocess.STDOUT,
            cwd=self.marks,
        )

    def prepare(self) -> None:
        self._start()
        wait_for("the script", lambda: "RUNNING" in self._statuses(), 60)

    def act(self) -> None:
        return

    def finish(self) -> str:
        # A script on a dead node counts as ended once none of its workers can run.
        self._process.wait(180)
        text = self.output.read_text()
        if self._process.returncode != 0 and self.lab.is_broken:
            return f"process ended by {self._process.returncode}"
        if self._process.returncode != 0:
            statuses = self._statuses()
            assert len(statuses) <= 1, statuses
            return f"process ended by {self._process.returncode}; script {statuses or 'none'}"
        [line] = [line for line in text.splitlines() if line.startswith("MESSAGES")]
        expected = f"MESSAGES {list(range(self.messages))}"
        assert line == expected, f"lost, repeated or reordered: {line}"
        assert self._statuses() == ["SUCCEEDED"]
        return "SUCCESS"

    def kill(self, sign: signal.Signals, *, of_step: bool) -> None:
        self._process.send_signal(sign)

    def messages_for_the_user(self) -> str:
        return self.output.read_text()

    def _statuses(self) -> list[str]:
        return [job["status"] for job in _scripts(self.lab, self.marks)]


class ScriptLaunch(Script):
    """A process submits a script."""

    requests = Requests("POST", "/api/jobs/", "dagster-pipes-")
    messages, pause = 5, 0.1

    def prepare(self) -> None:
        return

    def act(self) -> None:
        self._start()


class ScriptFollow(Script):
    """A process follows the output of a script."""

    requests = Requests("GET", "/api/v0/logs/stream.*")


class ScriptTerminate(Script):
    """An interrupted process stops its script."""

    requests = Requests("POST", "/api/jobs/.*/stop")
    messages, pause = 6000, 0.1

    def act(self) -> None:
        self._process.send_signal(signal.SIGINT)
