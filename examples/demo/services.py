"""Dagster's web server: started for the demo, and stopped with all that it started."""

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
    """The web server did not do its part; the text says what it printed."""


class Webserver:
    """A web server of Dagster, with a code server of its own for one file."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log
        self.used = False

    @property
    def url(self) -> str:
        """Where its pages are."""
        return f"http://127.0.0.1:{self.port}"

    def wait(self) -> None:
        """Returns once it answers."""
        deadline = time.monotonic() + START_SECONDS
        while not answers(f"{self.url}/server_info"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise self.failure("Dagster's web server did not start")
            time.sleep(0.2)

    def launch(self, job: str) -> str:
        """Launches a run of a job as its pages do: through GraphQL. Gives the run's id."""
        self.used = True
        client = DagsterGraphQLClient("127.0.0.1", port_number=self.port, timeout=LAUNCH_SECONDS)
        try:
            return client.submit_job_execution(job)
        except DagsterGraphQLClientError as error:
            raise self.failure(f"the run could not be launched: {error}") from error

    def stop(self) -> None:
        """Ends it as Ctrl-C does, so that the components can stop what they started."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                # Before anything was launched there is nothing to clean up but the server itself,
                # and one that is still starting may not listen.
                self.process.wait(STOP_SECONDS if self.used else STOP_SECONDS_UNUSED)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def failure(self, what: str) -> ServerFailed:
        """An error with the end of what the server printed."""
        printed = self.log.read_text(errors="replace").splitlines()
        return ServerFailed("\n".join([what, *(f"  {line}" for line in printed[-40:])]))


@contextlib.contextmanager
def webserver(definitions: Path, home: Path, console: Console) -> Iterator[Webserver]:
    """A web server that runs as long as the block."""
    log = home / "webserver.log"
    port = free_port()
    command = [sys.executable, "-m", "dagster_webserver", "-f", str(definitions)]
    with log.open("wb") as output:
        # A group of its own: Ctrl-C is for the demo, which stops the server when it is done.
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
        console.print(f"Dagster's pages, as long as the demo runs: [blue]{server.url}[/]")
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """A port that nothing uses now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ray_answers(port: int) -> bool:
    """Whether the dashboard of a Ray is there."""
    return answers(f"http://127.0.0.1:{port}/api/version")


def answers(url: str) -> bool:
    """Whether something speaks HTTP there, no matter what it says."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
