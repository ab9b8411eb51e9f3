"""Runs the entrypoint of a simulated Ray job, and ends it when that is asked.

It is a program of its own, and imports nothing of the package. It stands for Ray's own supervisor
(`dashboard/modules/job/job_supervisor.py`): a shell, a session and a log for each entrypoint, and a
stop that becomes a kill after `RAY_JOB_STOP_WAIT_TIME_S`. What is asked of it, it finds as keys of
the simulation's bucket.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

# Ray's own.
_STOP_WAIT = "RAY_JOB_STOP_WAIT_TIME_S"
_STOP_WAIT_DEFAULT = 3.0
# How often it looks.
_LOOK_SECONDS = 0.03
# How long a job may take to end by itself once the process that started it has: a step that has
# reported its end is about to.
_FAREWELL_SECONDS = 2.0
# The exit code of an entrypoint that could not be started, as shells have it.
_NOT_STARTED = 126
# The key that ends everything.
OVER = "over"


def key_file(directory: str, key: str) -> Path:
    """The file of a key, as the host names it."""
    plain = b"-_="
    name = "".join(
        chr(byte) if (byte < 128 and chr(byte).isalnum()) or byte in plain else f"%{byte:02X}"
        for byte in key.encode()
    )
    return Path(directory, "state", name)


class _Job:
    def __init__(self, directory: str, job: str, folder: str, path: str, entrypoint: str) -> None:
        self._directory = directory
        self._job = job
        self._files = Path(directory, "jobs")
        self._files.mkdir(exist_ok=True)
        self._asked = {what: key_file(directory, f"{what}/{job}") for what in ("stop", "kill")}
        self._over = key_file(directory, OVER)
        self._left_at: float | None = None
        signal.signal(signal.SIGTERM, self._leave)
        env = dict(os.environ)
        # Jobs find the programs of this environment, `dagster` first of all, as they do on a Ray
        # that is installed in it.
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
            # Such as a working directory that is not there.
            self._file(".log").write_text(f"{error}\n")
            self._end(_NOT_STARTED)
            raise SystemExit(_NOT_STARTED) from error

    def _file(self, suffix: str) -> Path:
        return self._files / f"{self._job}{suffix}"

    def _write(self, suffix: str, text: str) -> Path:
        """Shows a file only once it is whole."""
        new, file = self._file(f"{suffix}.new"), self._file(suffix)
        new.write_text(text)
        return new.replace(file)

    def _leave(self, *_: object) -> None:
        if self._left_at is None:
            self._left_at = time.monotonic()

    def _signal(self, what: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, what)

    def follow(self) -> None:
        """Returns once the job has ended."""
        stopped_at: float | None = None
        while True:
            try:
                self._process.wait(_LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                pass
            now = time.monotonic()
            left = self._left_at is not None and now - self._left_at >= _FAREWELL_SECONDS
            if self._over.exists() or self._asked["kill"].exists():
                self._signal(signal.SIGKILL)
            elif stopped_at is None and (left or self._asked["stop"].exists()):
                stopped_at = now
                self._signal(signal.SIGTERM)
            elif stopped_at is not None and now - stopped_at >= self._wait:
                self._signal(signal.SIGKILL)
        # What the entrypoint left behind in its session ends with it.
        self._signal(signal.SIGKILL)
        self._end(self._process.returncode)

    def _end(self, code: int) -> None:
        self._write(".exit", str(code))
        self._pid.unlink()


def main() -> None:
    """Runs the job of the arguments to its end."""
    _Job(*sys.argv[1:]).follow()


if __name__ == "__main__":
    main()
