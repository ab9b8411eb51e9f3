"""Random launches, cancellations, kills, restarts and network faults on a real Ray."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from dagster import DagsterRunStatus
from lab import FINAL, Lab
from processes import kill

# Two cores execute so many runs without reaching Dagster's timeouts.
_MOST_RUNS = 3
_FAULTS: tuple[int | str, ...] = (429, 500, 503, "lost", "reset", "half", "held", "lossy")
# The time within which every run ends after the last action, in seconds.
_END = 150


@dataclass
class _Run:
    run_id: str
    ops: int
    fails: bool
    # What was done to it. A run that nothing was done to must succeed, unless its op fails.
    disturbed: set[str] = field(default_factory=set)


class Soak:
    """Performs random actions for some minutes, and then checks every run."""

    def __init__(self, lab: Lab, seed: int, minutes: float) -> None:
        self._lab = lab
        self._seed, self._minutes = seed, minutes
        self._random = random.Random(seed)
        self._runs: list[_Run] = []
        self._actions: Counter[str] = Counter()
        # Seconds, process and resident memory in MiB.
        self._memory: list[tuple[float, int, float]] = []
        self._began = time.monotonic()

    def run(self) -> dict[str, Any]:
        """Runs the soak and returns its results."""
        actions: dict[Callable[[], bool], int] = {
            self._launch: 10,
            self._cancel: 2,
            self._kill_run_worker: 2,
            self._kill_step_worker: 2,
            self._restart_daemon: 1,
            self._restart_code_server: 1,
            self._restart_dashboard: 1,
            self._disturb_network: 4,
        }
        while time.monotonic() - self._began < self._minutes * 60:
            [action] = self._random.choices(list(actions), list(actions.values()))
            if action():
                self._actions[action.__name__.lstrip("_").replace("_", " ")] += 1
            self._sample()
            time.sleep(self._random.uniform(0.5, 2))
        wrong = [problem for run in self._runs for problem in self._problems(run)]
        return {
            "seed": self._seed,
            "minutes": self._minutes,
            "date": date.today().isoformat(),
            "runs": len(self._runs),
            "states": Counter(self._lab.deployment.status(run.run_id).value for run in self._runs),
            "actions": self._actions,
            "wrong": wrong,
            "memory": self._growth(),
        }

    def _active(self) -> list[_Run]:
        status = self._lab.deployment.status
        return [run for run in self._runs if status(run.run_id) not in FINAL]

    def _chosen(self, *, of_step: bool | None = None) -> _Run | None:
        """Returns a random run, which has a live worker if `of_step` is given."""
        runs = self._active()
        if of_step is not None:
            runs = [run for run in runs if self._lab.workers(run.run_id, of_step=of_step)]
        return self._random.choice(runs) if runs else None

    def _launch(self) -> bool:
        job, names = self._random.choice(
            [("alone", ("works",)), ("stepped", ("works",)), ("parallel", ("works", "beside"))]
        )
        seconds, fails = self._random.uniform(0, 12), self._random.random() < 0.15
        if len(self._active()) >= _MOST_RUNS:
            return False
        folder = self._lab.folder()
        # The web server cannot create a run before it has connected to a new code server.
        with suppress(AssertionError, OSError):
            run_id = self._lab.launch(job, folder, names=names, seconds=seconds, fails=fails)
            self._runs.append(_Run(run_id, len(names), fails))
            return True
        return False

    def _cancel(self) -> bool:
        run = self._chosen()
        if run is None or self._lab.deployment.status(run.run_id) != DagsterRunStatus.STARTED:
            return False
        run.disturbed.add("canceled")
        self._lab.instance.run_launcher.terminate(run.run_id)
        return True

    def _kill(self, *, of_step: bool) -> bool:
        run = self._chosen(of_step=of_step)
        if run is None:
            return False
        run.disturbed.add("step worker killed" if of_step else "run worker killed")
        for worker in self._lab.workers(run.run_id, of_step=of_step):
            kill(worker["pid"])
        return True

    def _kill_run_worker(self) -> bool:
        return self._kill(of_step=False)

    def _kill_step_worker(self) -> bool:
        return self._kill(of_step=True)

    def _restart_daemon(self) -> bool:
        self._lab.deployment.signal("daemon", self._random.choice([signal.SIGKILL, signal.SIGTERM]))
        # A run that the daemon was launching stays starting, until it fails after a time.
        for run in self._active():
            run.disturbed.add("daemon killed")
        time.sleep(self._random.uniform(0, 3))
        self._lab.deployment.start("daemon")
        return True

    def _restart_code_server(self) -> bool:
        self._lab.deployment.signal("code server")
        # A run that the daemon was taking from the queue needs the code server.
        for run in self._active():
            run.disturbed.add("code server killed")
        self._lab.deployment.start("code server")
        return True

    def _restart_dashboard(self) -> bool:
        self._lab.head.restart_dashboard()
        return True

    def _disturb_network(self) -> bool:
        what, seconds = self._random.choice(_FAULTS), self._random.uniform(0.5, 5)
        with self._lab.proxy.inject("GET|POST|PUT|DELETE", "/api/.*", what):
            time.sleep(seconds)
        return True

    def _problems(self, run: _Run) -> list[str]:
        """Waits for the end of a run, and returns what is wrong with it."""
        try:
            state = self._lab.wait_for_end(run.run_id, _END)
        except AssertionError as error:
            return [f"{sorted(run.disturbed)}: {error}"]
        begun = self._lab.bodies(run.run_id)
        ended = self._lab.bodies(run.run_id, "end")
        beside = [record for record in self._lab.records(run.run_id) if record.get("beside")]
        found = []
        succeeds = state == DagsterRunStatus.SUCCESS
        # A run whose worker was killed may fail although all of its ops had ended.
        if succeeds and (ended != run.ops or run.fails):
            found.append(f"is {state.value}, and {ended} of its {run.ops} ops ended")
        if begun > run.ops and "run worker killed" not in run.disturbed:
            found.append(f"its {run.ops} ops began {begun} times")
        if beside:
            found.append(f"had two workers at a time: {beside}")
        if not run.disturbed and state != (
            DagsterRunStatus.FAILURE if run.fails else DagsterRunStatus.SUCCESS
        ):
            found.append(f"is {state.value}, although nothing was done to it")
        shown = "\n    ".join(self._lab.deployment.messages(run.run_id)) if found else ""
        return [f"run {run.run_id} {sorted(run.disturbed)} {text}\n    {shown}" for text in found]

    def _sample(self) -> None:
        pid = self._lab.deployment.pid("daemon")
        status = Path(f"/proc/{pid}/status")
        if status.exists() and "VmRSS:" in (text := status.read_text()):
            mebibytes = int(text.partition("VmRSS:")[2].split()[0]) / 1024
            self._memory.append((time.monotonic() - self._began, pid, mebibytes))

    def _growth(self) -> str:
        """Describes the memory of the daemon process that lived longest."""
        if not self._memory:
            return "not measured"
        [(longest, _)] = Counter(pid for _, pid, _ in self._memory).most_common(1)
        of_it = [(at, mebibytes) for at, pid, mebibytes in self._memory if pid == longest]
        (first, begin), (last, end) = of_it[0], of_it[-1]
        half = [mebibytes for at, mebibytes in of_it if at >= (first + last) / 2]
        return (
            f"{begin:.0f} MiB at the start, {half[0]:.0f} MiB half way, {end:.0f} MiB at the end "
            f"of {(last - first) / 60:.1f} minutes"
        )
