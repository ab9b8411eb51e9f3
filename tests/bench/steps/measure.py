"""Measures an executor on a separate Ray. Prints the seconds of each run as a JSON list.

`python measure.py EXECUTOR SHAPE TIMES`: EXECUTOR is `multiprocess`, `job` (Ray jobs) or `task`
(Ray tasks), SHAPE is a job of jobs.py. The process is the driver of all runs, so the first run has
no warm workers. The time is that between the events of the run's start and end.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import dagster as dg
import ray
from dagster._core.definitions.reconstruct import ReconstructableJob

JOBS = Path(__file__).with_name("jobs.py")
CPUS = int(os.environ.get("CPUS", str(os.cpu_count() or 1)))


def config(executor: str) -> dict[str, Any]:
    if executor == "multiprocess":
        return {"max_concurrent": CPUS}
    if executor == "job":
        # As many steps at a time as with the other executors.
        return {"ray": {"num_cpus": 1}}
    return {"isolation": executor}


def seconds(instance: dg.DagsterInstance, shape: str, settings: dict[str, Any]) -> float:
    job = ReconstructableJob.for_file(str(JOBS), shape)
    execution = {"execution": {"config": settings}}
    with dg.execute_job(job, instance=instance, run_config=execution) as result:
        assert result.success
        record = instance.get_run_record_by_id(result.run_id)
    assert record and record.end_time and record.start_time
    return record.end_time - record.start_time


def main() -> None:
    executor, shape, times = sys.argv[1:4]
    os.environ["EXECUTOR"] = "multiprocess" if executor == "multiprocess" else "ray"
    with tempfile.TemporaryDirectory() as home:
        os.environ["DAGSTER_HOME"] = home
        Path(home, "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        # Not a Ray that already runs on this machine.
        context = ray.init("local", num_cpus=CPUS, include_dashboard=True, log_to_driver=False)
        if executor == "job":
            # Run config may not choose an address.
            os.environ["RAY_API_SERVER_ADDRESS"] = f"http://{context.dashboard_url}"
        with dg.DagsterInstance.get() as instance:
            found = [seconds(instance, shape, config(executor)) for _ in range(int(times))]
        ray.shutdown()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
