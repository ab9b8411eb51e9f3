"""Runs the entrypoint of a simulated Ray job, and stops it on request.

This script is a separate program and imports nothing of the package. It replaces Ray's supervisor
(`dashboard/modules/job/job_supervisor.py`): each entrypoint has its own shell, session and log, and
is killed `RAY_JOB_STOP_WAIT_TIME_S` after a stop request. Requests are keys of the simulation's
bucket.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

# Ray's variable and its default, in seconds.
_STOP_WAIT = "RAY_JOB_STOP_WAIT_TIME_S"
_STOP_WAIT_DEFAULT = 3.0
# How often the supervisor checks for requests.
_POLL_SECONDS = 0.03
# How long a job may continue after SIGTERM to the supervisor: a step that has reported its end
# exits by itself.
_EXIT_SECONDS = 2.0
# The shell's exit code for a command that cannot be executed.
_NOT_STARTED = 126
# The key that ends all jobs.
SHUTDOWN_KEY = "over"


def key_file(directory: str, key: str) -> Path:
    """Returns the file of a key, encoded as the host encodes it."""
    plain = b"-_="
    name = "".join(
        chr(byte) if (byte < 128 and chr(byte).isalnum()) or byte in plain else f"%{byte:02X}"
        for byte in key.encode()
    )
    return Path(directory, "state", name)


def write_atomically(file: Path, text: str, new: Path) -> None:
    """Writes a file by renaming `new`, so that no reader sees a part of the text."""
    new.write_text(text)
    new.replace(file)


class _Job:
    def __init__(self, directory: str, job: str, folder: str, path: str, entrypoint: str) -> None:
        self._directory = directory
        self._job = job
        self._files = Path(directory, "jobs")
        self._files.mkdir(exist_ok=True)
        self._requests = {what: key_file(directory, f"{what}/{job}") for what in ("stop", "kill")}
        self._shutdown = key_file(directory, SHUTDOWN_KEY)
        self._terminated_at: float | None = None
        signal.signal(signal.SIGTERM, self._on_sigterm)
        env = dict(os.environ)
        # Jobs find the programs of this environment, such as `dagster`, as with a Ray that is
        # installed in it.
        folders = [str(Path(sys.executable).parent), env.get("PATH") or os.defpath]
        env["PATH"] = os.pathsep.join(folders)
        if path:
            known = env.get("PYTHONPATH")
            env["PYTHONPATH"] = f"{path}{os.pathsep}{known}" if known else path
        self._wait = float(env.get(_STOP_WAIT) or _STOP_WAIT_DEFAULT)
        self._pid = self._write(".pid", str(os.getpid()))
        try:
            with self._file(".log").open("ab") as log:
                self._process = subprocess.Popen(
                    entrypoint,
                    shell=True,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=folder or None,
                    env=env,
                    start_new_session=True,
                )
        except OSError as error:
            # For example, the working directory does not exist.
            self._file(".log").write_text(f"{error}\n")
            self._end(_NOT_STARTED)
            raise SystemExit(_NOT_STARTED) from error

    def _file(self, suffix: str) -> Path:
        return self._files / f"{self._job}{suffix}"

    def _write(self, suffix: str, text: str) -> Path:
        file = self._file(suffix)
        write_atomically(file, text, self._file(f"{suffix}.new"))
        return file

    def _on_sigterm(self, *_: object) -> None:
        if self._terminated_at is None:
            self._terminated_at = time.monotonic()

    def _signal(self, what: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, what)

    def follow(self) -> None:
        """Waits until the job has ended, and carries out requests."""
        stopped_at: float | None = None
        while True:
            try:
                self._process.wait(_POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                pass
            now = time.monotonic()
            expired = self._terminated_at is not None and now - self._terminated_at >= _EXIT_SECONDS
            if self._shutdown.exists() or self._requests["kill"].exists():
                self._signal(signal.SIGKILL)
            elif stopped_at is None and (expired or self._requests["stop"].exists()):
                stopped_at = now
                self._signal(signal.SIGTERM)
            elif stopped_at is not None and now - stopped_at >= self._wait:
                self._signal(signal.SIGKILL)
        # Processes that the entrypoint left behind in its session end with it.
        self._signal(signal.SIGKILL)
        self._end(self._process.returncode)

    def _end(self, code: int) -> None:
        self._write(".exit", str(code))
        self._pid.unlink()


def main() -> None:
    """Runs the job of the arguments until it ends."""
    _Job(*sys.argv[1:]).follow()


if __name__ == "__main__":
    main()
