"""Runs commands as processes of this machine, for every client with the token.

It is an example of your own infrastructure, such as a batch system. README.md describes its HTTP
API.
"""

import argparse
import hmac
import json
import logging
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_ID = re.compile(r"[A-Za-z0-9._-]{1,200}")
_FIELDS = {"argv", "env", "directory", "labels"}
_LARGEST_BODY = 4 << 20
_CHUNK = 64 << 10
_POLL_SECONDS = 0.1

log = logging.getLogger("command-runner")


class Refused(Exception):
    """An error response."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Job:
    """A command that is running or has ended. A file holds its merged output streams."""

    def __init__(self, id: str, spec: Mapping[str, Any], output: Path) -> None:
        self.id = id
        self.spec = spec
        self.output = output
        self.began = time.time()
        self.ended: float | None = None
        self.exit_code: int | None = None
        self.stopped = False
        self._deadline: threading.Timer | None = None
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                spec["argv"],
                cwd=spec.get("directory"),
                env={**os.environ, **spec.get("env", {})},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                # A separate process group, so that a signal reaches all of its processes.
                start_new_session=True,
            )
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        # The process group's id is not reused until its leader is reaped.
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        # Kill the processes that the command left running.
        self._signal(signal.SIGKILL)
        self.exit_code = self._process.wait()
        self.ended = time.time()

    def _signal(self, number: int) -> None:
        if self.ended is None:
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                return

    def stop(self, grace: float) -> None:
        """Sends SIGTERM, and SIGKILL after `grace` seconds."""
        if self.ended is not None:
            return
        if not self.stopped:
            self.stopped = True
            self._signal(signal.SIGTERM)
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = threading.Timer(grace, self._signal, (signal.SIGKILL,))
        self._deadline.daemon = True
        self._deadline.start()

    @property
    def state(self) -> str:
        if self.ended is None:
            return "running"
        return "stopped" if self.stopped else "succeeded" if self.exit_code == 0 else "failed"

    def summary(self) -> dict[str, Any]:
        """Returns the public fields. The environment is left out because it may hold secrets."""
        return {
            "id": self.id,
            "state": self.state,
            "exit_code": self.exit_code,
            "argv": self.spec["argv"],
            "labels": self.spec.get("labels", {}),
            "began": self.began,
            "ended": self.ended,
        }


class Jobs:
    """All jobs, by id."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def start(self, id: str, spec: Mapping[str, Any]) -> tuple[Job, bool]:
        """Starts a job, or finds the existing one. Returns the job and whether it is new."""
        with self._lock:
            if id in self._jobs:
                return self._jobs[id], False
            try:
                job = Job(id, spec, self._directory / f"{id}.log")
            except (OSError, ValueError) as error:
                raise Refused(
                    HTTPStatus.BAD_REQUEST, f"the command cannot be started: {error}"
                ) from error
            self._jobs[id] = job
            return job, True

    def get(self, id: str) -> Job:
        with self._lock:
            if id not in self._jobs:
                raise Refused(HTTPStatus.NOT_FOUND, f"there is no job {id}")
            return self._jobs[id]

    def all(self, ids: list[str] | None) -> list[Job]:
        with self._lock:
            return [job for job in self._jobs.values() if ids is None or job.id in ids]

    def remove(self, id: str) -> None:
        with self._lock:
            job = self._jobs.get(id)
            if job is None:
                raise Refused(HTTPStatus.NOT_FOUND, f"there is no job {id}")
            if job.ended is None:
                raise Refused(HTTPStatus.CONFLICT, f"the job {id} is running: stop it first")
            del self._jobs[id]
            job.output.unlink(missing_ok=True)

    def stop(self, grace: float) -> None:
        """Stops all jobs and waits until they have ended."""
        running = [job for job in self.all(None) if job.ended is None]
        for job in running:
            job.stop(grace)
        while any(job.ended is None for job in running):
            time.sleep(_POLL_SECONDS)


class Handler(BaseHTTPRequestHandler):
    """The HTTP API."""

    protocol_version = "HTTP/1.1"
    jobs: Jobs
    token: str

    def do_GET(self) -> None:
        self._answer("GET")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        try:
            body = self._body()
            given = self.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
                raise Refused(
                    HTTPStatus.UNAUTHORIZED,
                    "the token is missing or wrong: send the token as Authorization: Bearer TOKEN",
                )
            self._route(method, body)
        except Refused as refused:
            self._send(refused.status, {"error": str(refused)})
        except ConnectionError:
            self.close_connection = True

    def _route(self, method: str, body: dict[str, Any]) -> None:
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.split("/") if part]
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        match method, parts:
            case "GET", ["jobs"]:
                ids = query["ids"].split(",") if "ids" in query else None
                self._send(HTTPStatus.OK, [job.summary() for job in self.jobs.all(ids)])
            case "PUT", ["jobs", id]:
                job, is_new = self.jobs.start(_checked_id(id), _checked_spec(body))
                self._send(HTTPStatus.CREATED if is_new else HTTPStatus.OK, job.summary())
            case "GET", ["jobs", id]:
                self._send(HTTPStatus.OK, self.jobs.get(id).summary())
            case "POST", ["jobs", id, "stop"]:
                job = self.jobs.get(id)
                job.stop(_number(body.get("grace_seconds", 10), "grace_seconds"))
                self._send(HTTPStatus.ACCEPTED, job.summary())
            case "GET", ["jobs", id, "output"]:
                self._stream(self.jobs.get(id), int(_number(query.get("from", 0), "from")))
            case "DELETE", ["jobs", id]:
                self.jobs.remove(id)
                self._send(HTTPStatus.OK, {})
            case _:
                raise Refused(HTTPStatus.NOT_FOUND, f"no route for {method} {url.path}")

    def _body(self) -> dict[str, Any]:
        length = int(self.headers.get("content-length") or 0)
        if length > _LARGEST_BODY:
            self.close_connection = True
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body exceeds {_LARGEST_BODY} bytes"
            )
        try:
            body = json.loads(self.rfile.read(length) or b"{}")
        except ValueError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {error}") from error
        if not isinstance(body, dict):
            raise Refused(HTTPStatus.BAD_REQUEST, "the body is not a JSON object")
        return body

    def _send(self, status: HTTPStatus, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, job: Job, position: int) -> None:
        """Sends the output from a byte position as it is written, until the job has ended."""
        self.send_response(HTTPStatus.OK)
        self.send_header("content-type", "application/octet-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        with job.output.open("rb") as file:
            file.seek(position)
            while True:
                # Read the state before the output: output written in between is read next time.
                ended = job.ended is not None
                data = file.read(_CHUNK)
                if data:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                elif ended:
                    break
                else:
                    time.sleep(_POLL_SECONDS)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        log.info("%s %s %s", self.command, self.path, args[1] if len(args) > 1 else "")


def _checked_id(id: str) -> str:
    if not _ID.fullmatch(id):
        raise Refused(
            HTTPStatus.BAD_REQUEST, f"{id!r} is not a job id: use 1 to 200 of A-Z a-z 0-9 . _ -"
        )
    return id


def _checked_spec(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    unknown = sorted(spec.keys() - _FIELDS)
    if unknown:
        problem = (
            f"unknown fields: {', '.join(unknown)}; the fields are {', '.join(sorted(_FIELDS))}"
        )
        raise Refused(HTTPStatus.BAD_REQUEST, problem)
    argv = spec.get("argv")
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
        raise Refused(HTTPStatus.BAD_REQUEST, "argv must be a list of strings, the program first")
    for name in ("env", "labels"):
        pairs = spec.get(name, {})
        if not isinstance(pairs, dict) or not all(isinstance(v, str) for v in pairs.values()):
            raise Refused(HTTPStatus.BAD_REQUEST, f"{name} must be an object of strings")
    if not isinstance(spec.get("directory"), str | None):
        raise Refused(HTTPStatus.BAD_REQUEST, "directory must be a path")
    return spec


def _number(value: Any, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number < 2**53:
        raise Refused(HTTPStatus.BAD_REQUEST, f"{name} must be a number of at least 0")
    return number


def _token(file: Path) -> str:
    if not file.exists():
        # Only the user of the service may read the token.
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
            new.write(secrets.token_urlsafe(32))
        log.info("a new token is in %s", file)
    token = file.read_text().strip()
    if not token:
        raise SystemExit(f"the token file {file} is empty: remove it to create a new token")
    return token


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8099, help="0 for any free port (%(default)s)")
    parser.add_argument(
        "--token-file", type=Path, default=Path("token"), help="created if missing (%(default)s)"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    Handler.token = _token(options.token_file)
    with tempfile.TemporaryDirectory(prefix="command-runner-") as directory:
        Handler.jobs = Jobs(Path(directory))
        server = ThreadingHTTPServer((options.host, options.port), Handler)
        server.daemon_threads = True
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        sys.stdout.write(f"http://{options.host}:{server.server_address[1]}\n")
        sys.stdout.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            server.server_close()
            Handler.jobs.stop(grace=10)


if __name__ == "__main__":
    main()
