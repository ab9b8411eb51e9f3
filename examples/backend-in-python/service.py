"""The client of the service's HTTP API."""

import json
from typing import Any, Self

import http_client
from componentize_py_types import Err
from http_client import Response
from jobs import is_id
from options import invalid
from wit_world.imports import monotonic_clock, store
from wit_world.imports.model import (
    ApiError,
    Error_Backend,
    Error_Cancelled,
    Error_NotFound,
    Error_Timeout,
    Error_Unavailable,
    JobRef,
    JobState,
    JobStatus,
)
from wit_world.imports.reports import Listener

# The settings that are read from the configuration once and not sent with each run or step.
SETTINGS = {
    "address": "The URL of the service, such as http://127.0.0.1:8099.",
    "stop_grace_seconds": "How long a job may take to end before it is killed. Default: 30.",
}

_TRIES = 4
_FIRST_WAIT_SECONDS = 0.25
# How many job ids fit into the URL of one request.
_AT_ONCE = 100
_POLL_SECONDS = 0.3
# How long to wait for the end of a job after its grace period.
_PATIENCE_SECONDS = 30
_STATES = {
    "running": JobState.RUNNING,
    "succeeded": JobState.SUCCEEDED,
    "failed": JobState.FAILED,
    "stopped": JobState.STOPPED,
}


class Service:
    """A client of the configured service."""

    def __init__(self, address: str, grace_seconds: float) -> None:
        self._address = address.rstrip("/")
        self._grace_seconds = grace_seconds

    @classmethod
    def configured(cls) -> Self:
        address = store.get("address")
        if address is None:
            invalid("address", "is missing", "write the service's URL, http://host:port")
        text = store.get("stop_grace_seconds")
        try:
            grace = 30.0 if text is None else float(text)
        except ValueError:
            grace = -1.0
        if not 0 <= grace < 86_400:
            invalid("stop_grace_seconds", f"is {text}", "write a number of seconds below 86400")
        return cls(address, grace)

    def reference(self, id: str) -> JobRef:
        return JobRef(id, dashboard_url=f"{self._address}/jobs/{id}", details=None)

    def start(self, id: str, spec: dict[str, Any]) -> dict[str, Any]:
        """Starts a job, or returns the existing job with this id."""
        return self._ask("PUT", _path(id), spec)

    def forget(self, id: str) -> None:
        try:
            self._ask("DELETE", _path(id))
        except Err as error:
            _pass_over_missing(error)

    def look(self, ids: list[str]) -> list[JobStatus]:
        """Returns the status of each job, in the order of the ids."""
        known: dict[str, JobStatus] = {}
        valid = [id for id in ids if is_id(id)]
        for first in range(0, len(valid), _AT_ONCE):
            batch = ",".join(valid[first : first + _AT_ONCE])
            for job in self._ask("GET", f"/jobs?ids={batch}"):
                known[job["id"]] = _status(job)
        missing = JobState.MISSING
        return [known.get(id) or JobStatus(id, missing, True, None, None, None, None) for id in ids]

    def stop(self, ids: list[str], listener: Listener) -> list[JobStatus]:
        """Stops all jobs at once and returns their final statuses."""
        for id in ids:
            try:
                self._ask("POST", f"{_path(id)}/stop", {"grace_seconds": self._grace_seconds})
            except Err as error:
                _pass_over_missing(error)
        patience = self._grace_seconds + _PATIENCE_SECONDS
        deadline = monotonic_clock.now() + int(patience * 1e9)
        while True:
            statuses = self.look(ids)
            if all(status.state != JobState.RUNNING for status in statuses):
                return statuses
            if listener.cancelled():
                raise Err(Error_Cancelled())
            if monotonic_clock.now() >= deadline:
                raise Err(Error_Timeout(int(patience * 1000)))
            sleep(_POLL_SECONDS)

    def output(self, id: str, position: int) -> Response | None:
        """Returns a job's output from a byte position, as a stream that ends with the job.

        Returns None if there is no such job.
        """
        try:
            return self._send("GET", f"{_path(id)}/output?from={position}")
        except Err as error:
            _pass_over_missing(error)
            return None

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        with self._send(method, path, body) as response:
            return json.loads(response.read_all())

    def _send(self, method: str, path: str, body: Any = None) -> Response:
        """Sends a request with retries. All requests of the API are idempotent."""
        data = b"" if body is None else json.dumps(body).encode()
        wait = _FIRST_WAIT_SECONDS
        for left in reversed(range(_TRIES)):
            try:
                response = http_client.send(method, self._address + path, data)
            except Err as error:
                if not left or not isinstance(error.value, Error_Unavailable):
                    raise
            else:
                if not left or response.status < 500:
                    return _succeeded(response)
                response.close()
            sleep(wait)
            wait *= 2
        raise AssertionError("unreachable")


def sleep(seconds: float) -> None:
    """Waits on the monotonic clock. `time.sleep` works too."""
    with monotonic_clock.subscribe_duration(int(seconds * 1e9)) as pollable:
        pollable.block()


def _path(id: str) -> str:
    """Returns the path of a job. Checks the id, because users can edit the tag that holds it."""
    if not is_id(id):
        raise Err(Error_NotFound(f"there is no job {id!r}"))
    return f"/jobs/{id}"


def _status(job: dict[str, Any]) -> JobStatus:
    code = job["exit_code"]
    state = _STATES.get(job["state"], JobState.UNKNOWN)
    ended = state not in (JobState.RUNNING, JobState.UNKNOWN)
    message = f"exit code {code}" if code else None
    return JobStatus(job["id"], state, ended, message, None, code, None)


def _succeeded(response: Response) -> Response:
    if 200 <= response.status < 300:
        return response
    with response:
        text = response.read_all().decode(errors="replace")
    if response.status == 404:
        raise Err(Error_NotFound(text))
    raise Err(Error_Backend(ApiError(response.status, "Refused", text, None)))


def _pass_over_missing(error: Err[Any]) -> None:
    if not isinstance(error.value, Error_NotFound):
        raise error
