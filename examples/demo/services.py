"""Starts Dagster's web server for the demo and stops it with all of its processes."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from dagster_graphql import DagsterGraphQLClient, DagsterGraphQLClientError
from rich.console import Console

START_SECONDS = 90
LAUNCH_SECONDS = 300
STOP_SECONDS = 60
STOP_SECONDS_UNUSED = 5


class ServerFailed(Exception):
    """The web server failed. The text contains the end of its output."""


class Webserver:
    """Dagster's web server, with a code server for one file."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log
        self.used = False

    @property
    def url(self) -> str:
        """The URL of its pages."""
        return f"http://127.0.0.1:{self.port}"

    def wait(self) -> None:
        """Waits until the server responds."""
        deadline = time.monotonic() + START_SECONDS
        while not answers(f"{self.url}/server_info"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise self.failure("Dagster's web server did not start")
            time.sleep(0.2)

    def launch(self, job: str) -> str:
        """Launches a run of a job through GraphQL, as the web UI does. Returns the run's id."""
        self.used = True
        client = DagsterGraphQLClient("127.0.0.1", port_number=self.port, timeout=LAUNCH_SECONDS)
        try:
            return client.submit_job_execution(job)
        except DagsterGraphQLClientError as error:
            raise self.failure(f"the run could not be launched: {error}") from error

    def stop(self) -> None:
        """Sends SIGINT, so that the server stops its code server. Ray then stops by itself."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                # Before a launch only the server itself needs to stop, and a starting server may
                # ignore the signal.
                self.process.wait(STOP_SECONDS if self.used else STOP_SECONDS_UNUSED)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def failure(self, what: str) -> ServerFailed:
        """Returns an error with the end of the server's output."""
        printed = self.log.read_text(errors="replace").splitlines()
        return ServerFailed("\n".join([what, *(f"  {line}" for line in printed[-40:])]))


@contextlib.contextmanager
def webserver(definitions: Path, home: Path, console: Console) -> Iterator[Webserver]:
    """Runs a web server during the block."""
    log = home / "webserver.log"
    port = free_port()
    command = [sys.executable, "-m", "dagster_webserver", "-f", str(definitions)]
    with log.open("wb") as output:
        # A separate process group: on Ctrl-C, the demo stops the server itself.
        process = subprocess.Popen(
            [*command, "-h", "127.0.0.1", "-p", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "DAGSTER_HOME": str(home)},
        )
    server = Webserver(process, port, log)
    try:
        with console.status("Dagster is starting"):
            server.wait()
        console.print(f"Dagster's web UI, while the demo runs: [blue]{server.url}[/]")
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """Returns an unused port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ray_answers(port: int) -> bool:
    """Returns whether a Ray dashboard responds on the port."""
    return answers(f"http://127.0.0.1:{port}/api/version")


def answers(url: str) -> bool:
    """Returns whether an HTTP server responds at the URL, with any status."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
