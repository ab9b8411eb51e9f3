"""Steps that a tag keeps off Ray."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import dagster_ray.core.off_ray
from dagster._core.definitions.reconstruct import ReconstructableJob
from processes import command_lines, descendants, free_port, kill, wait_for
from ray_head import RayHead

JOBS = Path(__file__).parent / "code/steps.py"
RUN = """
    import dagster as dg
    from dagster._core.definitions.reconstruct import ReconstructableJob

    with dg.DagsterInstance.from_config({home!r}) as instance:
        job = ReconstructableJob.for_file({jobs!r}, "staying_beside")
        dg.execute_job(job, instance=instance, run_config={config!r})
"""


COUNTS = """
    import pathlib, signal, sys, time

    place, told = pathlib.Path(sys.argv[1]), []
    signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    while not (place / "end").exists():
        (place / "told").write_text(str(len(told)))
        time.sleep(0.02)
"""


@contextmanager
def _executed(
    instance: dg.DagsterInstance, job: str, address: str, **config: object
) -> Iterator[dg.JobExecutionResult]:
    settings = {"ray": {"address": address, **config}}
    with dg.execute_job(
        ReconstructableJob.for_file(str(JOBS), job),
        instance=instance,
        run_config={"execution": {"config": settings}},
        raise_on_error=False,
    ) as result:
        yield result


def test_steps_on_ray_and_beside_the_run_belong_to_one_run(home, ray_head: RayHead) -> None:
    with _executed(home({}), "mixed", ray_head.url, num_cpus=0) as result:
        assert result.success
        assert result.output_for_node("on_ray")[1] == 1
        beside, in_ray = result.output_for_node("beside")
        assert in_ray == 0
        # Processes of their own, one for each try.
        assert len({os.getpid(), beside, result.output_for_node("again")}) == 3
        jobs = ray_head.jobs(result.run_id).values()
    assert {job["metadata"]["dagster/op"] for job in jobs} == {"quick", "on_ray"}


def test_a_tag_brings_a_step_back_to_ray(home, ray_head: RayHead) -> None:
    with _executed(home({}), "mixed", ray_head.url, enabled=False) as result:
        assert result.success
        assert result.output_for_node("on_ray")[1] == 1
        [job] = ray_head.jobs(result.run_id).values()
    assert job["metadata"]["dagster/op"] == "on_ray"


def test_a_process_that_ends_badly_fails_its_step_with_the_reason(home) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with _executed(home({}), "failing_beside", nobody) as result:
        told = {
            event.step_key: event.step_failure_data.error.to_string()
            for event in result.get_step_failure_events()
            if event.step_failure_data.error
        }
    assert "this op cannot do it" in told["fails"]
    assert "was ended by SIGKILL" in told["dies"]
    assert "ended with exit code 0 without reporting" in told["leaves"]
    assert "exit code 3" in told["exits"] and "the licence server is away" in told["exits"]


def test_a_worker_that_is_killed_takes_such_a_step_along(home, tmp_path: Path) -> None:
    instance: dg.DagsterInstance = home({})
    config = {
        "execution": {"config": {"address": f"http://127.0.0.1:{free_port()}"}},
        "ops": {"cleans_up": {"config": {"marks": str(tmp_path)}}},
    }
    code = RUN.format(home=instance.root_directory, jobs=str(JOBS), config=config)
    worker = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    try:
        wait_for("the step", lambda: (tmp_path / "cleans_up.started").exists(), 60)
        lines = command_lines()
        below = descendants(worker.pid)
        step = {pid for pid in below if "api execute_step" in lines.get(pid, "")}
        assert step
    finally:
        kill(worker.pid)
        worker.wait()
    wait_for("no step", lambda: not step & command_lines().keys(), 30)
    assert (tmp_path / "cleans_up.cleaned").exists(), "it had no time to clean up"


def test_ray_tells_such_a_step_once_to_end(tmp_path: Path) -> None:
    """Ray signals each process below a job's entrypoint, this one's keeper and this one."""
    tied = Path(dagster_ray.core.off_ray.__file__).with_name("tied_process.py")
    program = [sys.executable, "-c", textwrap.dedent(COUNTS), str(tmp_path)]
    keeper = subprocess.Popen([sys.executable, "-I", str(tied), str(os.getpid()), *program])

    def told(times: int) -> None:
        counted = tmp_path / "told"
        wait_for(f"{times} signals", lambda: counted.exists() and counted.read_text() == f"{times}")

    try:
        told(0)
        [step] = descendants(keeper.pid)
        for process in (step, keeper.pid):
            subprocess.run(["kill", "-TERM", str(process)], check=True)
            told(1)
        time.sleep(0.5)
        told(1)
        keeper.terminate()
        told(2)
    finally:
        (tmp_path / "end").touch()
        assert keeper.wait(10) == 0
