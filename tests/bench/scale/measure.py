"""Executes a run of `WIDTH` steps, and prints what its run worker used, as JSON.

`python measure.py`. `RAY_API_SERVER_ADDRESS` names a server that executes nothing.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableJob

JOBS = Path(__file__).with_name("jobs.py")


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def memory(name: str) -> float:
    """Returns an entry of this process's status, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> None:
    job = ReconstructableJob.for_file(str(JOBS), "wide")
    job.get_definition()
    with dg.DagsterInstance.get() as instance:
        before, began, resident = cpu(), time.time(), memory("VmRSS")
        with dg.execute_job(job, instance=instance, run_config={}) as result:
            assert result.success
            ended = time.time()
    found = {
        "began": began,
        "ended_at": ended,
        "cpu": cpu() - before,
        "peak": memory("VmHWM"),
        "grown": memory("VmHWM") - resident,
        "width": int(os.environ["WIDTH"]),
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
