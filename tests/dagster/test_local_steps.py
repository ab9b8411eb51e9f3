"""Local steps: a tag runs them in a subprocess of the run worker instead of on Ray."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster_ray.executor import parent_death_guard
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

    folder, signals = pathlib.Path(sys.argv[1]), []
    signal.signal(signal.SIGTERM, lambda *_: signals.append(1))
    while not (folder / "end").exists():
        (folder / "signals").write_text(str(len(signals)))
        time.sleep(0.02)
"""


@contextmanager
def _executed(
    instance: dg.DagsterInstance, job: str, address: str, **config: object
) -> Iterator[dg.JobExecutionResult]:
    # The tests look at the jobs after the run.
    options = {"delete_ended_jobs": False}
    settings = {"ray": {"address": address, "backend_config": options, **config}}
    with dg.execute_job(
        ReconstructableJob.for_file(str(JOBS), job),
        instance=instance,
        run_config={"execution": {"config": settings}},
        raise_on_error=False,
    ) as result:
        yield result


def test_a_run_can_have_both_ray_steps_and_local_steps(home, ray_head: RayHead) -> None:
    with _executed(home({}), "mixed", ray_head.url, num_cpus=0) as result:
        assert result.success
        assert result.output_for_node("on_ray")[1] == 1
        beside, in_ray = result.output_for_node("beside")
        assert in_ray == 0
        # Each attempt of a local step runs in a separate process.
        assert len({os.getpid(), beside, result.output_for_node("again")}) == 3
        jobs = ray_head.jobs(result.run_id).values()
    assert {job["metadata"]["dagster/op"] for job in jobs} == {"quick", "on_ray"}


def test_a_tag_enables_ray_for_one_step_of_a_local_run(home, ray_head: RayHead) -> None:
    with _executed(home({}), "mixed", ray_head.url, enabled=False) as result:
        assert result.success
        assert result.output_for_node("on_ray")[1] == 1
        shown = [event.message or "" for event in result.all_events]
    [message] = [message for message in shown if "in Ray job" in message]
    assert '"on_ray"' in message


def test_a_local_step_whose_process_fails_reports_the_reason(home) -> None:
    closed = f"http://127.0.0.1:{free_port()}"
    with _executed(home({}), "failing_beside", closed) as result:
        errors = {
            event.step_key: event.step_failure_data.error.to_string()
            for event in result.get_step_failure_events()
            if event.step_failure_data.error
        }
    assert "this op cannot do it" in errors["fails"]
    assert "was ended by SIGKILL" in errors["dies"]
    assert "ended with exit code 0 without reporting" in errors["leaves"]
    assert "exit code 3" in errors["exits"]
    assert "the license server is unreachable" in errors["exits"]


def test_killing_the_run_worker_ends_its_local_steps_after_cleanup(home, tmp_path: Path) -> None:
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
    assert (tmp_path / "cleans_up.cleaned").exists(), "the step had no time to clean up"


def test_a_local_step_gets_one_sigterm_when_ray_signals_every_process(tmp_path: Path) -> None:
    """Ray signals each process below a job's entrypoint: the parent-death guard and the step."""
    guard_program = parent_death_guard.__file__
    program = [sys.executable, "-c", textwrap.dedent(COUNTS), str(tmp_path)]
    guard = subprocess.Popen([sys.executable, "-I", guard_program, str(os.getpid()), *program])

    def signaled(times: int) -> None:
        counted = tmp_path / "signals"
        wait_for(f"{times} signals", lambda: counted.exists() and counted.read_text() == f"{times}")

    try:
        signaled(0)
        [step] = descendants(guard.pid)
        for process in (step, guard.pid):
            subprocess.run(["kill", "-TERM", str(process)], check=True)
            signaled(1)
        time.sleep(0.5)
        signaled(1)
        guard.terminate()
        signaled(2)
    finally:
        (tmp_path / "end").touch()
        assert guard.wait(10) == 0
