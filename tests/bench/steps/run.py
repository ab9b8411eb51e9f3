"""Compares the time of runs with trivial steps: Ray tasks, Ray jobs, subprocesses, PyPI's jobs.

`python run.py OWN PYPI`: the interpreters of the two environments. Each row is the median of
`TIMES` runs, or of `JOB_TIMES` for Ray jobs, which take minutes. Each run has a driver and a Ray of
its own. The noise is half the difference between the slowest and the fastest, relative to the
median. `EXECUTORS` selects the rows, and `FAN` the steps of the fan-out.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from measured_build import announce
from report import report

MEASURE = Path(__file__).with_name("measure.py")
OTHERS = ("RAY_ADDRESS", "DAGSTER_HOME")
TIMES = int(os.environ.get("TIMES", "2"))
JOB_TIMES = int(os.environ.get("JOB_TIMES", "1"))
SHAPES = {"chain": "chain of 10", "fan": f"fan-out of {os.environ.get('FAN', '100')}"}
EXECUTORS = os.environ.get("EXECUTORS", "task,job,pypi").split(",")
JOBS = ("job", "pypi")


def measured(interpreter: str, executor: str, shape: str, times: int) -> list[float]:
    print(f"measuring {executor}: {shape} …", file=sys.stderr, flush=True)
    environment = {key: value for key, value in os.environ.items() if key not in OTHERS}
    done = subprocess.run(
        [interpreter, str(MEASURE), executor, shape, str(times)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        timeout=3600,
        env={
            **environment,
            "PATH": f"{Path(interpreter).parent}:{os.environ['PATH']}",
            "RAY_AUTH_MODE": "disabled",
            "PYTHONWARNINGS": "ignore",
        },
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    own, pypi = sys.argv[1:3]
    announce(own)
    rows = [("", "executor", "median", "noise", "faster than PyPI")]
    for shape, title in SHAPES.items():
        found: dict[str, list[float]] = {}
        for number in range(max(TIMES, JOB_TIMES)):
            for executor in EXECUTORS:
                if number >= (JOB_TIMES if executor in JOBS else TIMES):
                    continue
                if executor == "task":
                    first, again = measured(own, "task", shape, 2)
                    found.setdefault("task, new driver", []).append(first)
                    found.setdefault("task, warm workers", []).append(again)
                elif executor == "pypi":
                    found.setdefault("job, PyPI", []).extend(measured(pypi, "job", shape, 1))
                else:
                    found.setdefault(executor, []).extend(measured(own, executor, shape, 1))
        base = statistics.median(found.get("job, PyPI") or [0.0])
        for executor, times in found.items():
            median = statistics.median(times)
            noise = f"± {50 * (max(times) - min(times)) / median:.0f} %"
            if len(times) == 1:
                noise = "one run"
            ratio = f"{base / median:.1f} x" if base else ""
            rows.append((title, executor, f"{median:.2f} s", noise, ratio))
    report("steps", rows)


if __name__ == "__main__":
    main()
