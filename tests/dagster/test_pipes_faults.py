"""`PipesRayJobClient` on a real Ray: broken connections, outages, interrupts, terminated runs."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from dagster_ray import PipesRayJobClient
from dagster_ray.errors import UnavailableError
from fault_proxy import Fault, FaultProxy
from irregular_output import IRREGULAR_OUTPUT, assert_complete
from pipes_script import Write, run_script
from processes import wait_for
from ray_head import RayHead

# Injects a fault while a script runs, until the event is set.
Trouble = Callable[[RayHead, FaultProxy, threading.Event], None]


def _cut_every_second(ray: RayHead, proxy: FaultProxy, done: threading.Event) -> None:
    while not done.wait(1.0):
        proxy.break_streams()


def _wait_for_the_stream(proxy: FaultProxy, done: threading.Event) -> None:
    """Waits until the output is being streamed: a fault before that would not break the stream."""
    while not proxy.recorded("GET", "/api/v0/logs/stream.*") and not done.wait(0.2):
        pass
    done.wait(2)


def _away_for_20_seconds(ray: RayHead, proxy: FaultProxy, done: threading.Event) -> None:
    _wait_for_the_stream(proxy, done)
    proxy.faults += [Fault("GET", ".*", 503), Fault("POST", ".*", 503)]
    proxy.break_streams()
    done.wait(20)
    proxy.faults.clear()


def _restart_the_dashboard(ray: RayHead, proxy: FaultProxy, done: threading.Event) -> None:
    _wait_for_the_stream(proxy, done)
    ray.restart_dashboard()


@pytest.mark.parametrize(
    "trouble", [_cut_every_second, pytest.param(_away_for_20_seconds, marks=pytest.mark.nightly)]
)
def test_output_arrives_completely_despite_connection_faults(
    ray_head: RayHead,
    proxy: FaultProxy,
    script: Write,
    capfdbinary: pytest.CaptureFixture[bytes],
    trouble: Trouble,
) -> None:
    _arrives_despite(trouble, ray_head, proxy, script, capfdbinary)


@pytest.mark.nightly
def test_output_arrives_completely_despite_a_restarted_dashboard(
    unwatched_ray_head: RayHead, script: Write, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with FaultProxy.start(unwatched_ray_head.url) as proxy:
        _arrives_despite(_restart_the_dashboard, unwatched_ray_head, proxy, script, capfdbinary)


def _arrives_despite(
    trouble: Trouble,
    ray: RayHead,
    proxy: FaultProxy,
    script: Write,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    # The script runs for about 12 seconds, so that each fault happens while it runs.
    body = IRREGULAR_OUTPUT.format(messages=300, lines=3, pause=0.04)
    done = threading.Event()
    thread = threading.Thread(target=trouble, args=(ray, proxy, done))
    thread.start()
    try:
        _, custom = run_script(PipesRayJobClient(address=proxy.url), {"entrypoint": script(body)})
    finally:
        done.set()
        thread.join()
    assert len(proxy.recorded("GET", "/api/v0/logs/stream.*")) > 1, (
        "the fault did not break the stream"
    )
    assert_complete(custom, capfdbinary.readouterr().out, 300, 3)


INTERRUPTED = """
import sys
import dagster as dg
from dagster_ray import PipesRayJobClient


@dg.asset
def scripted(context: dg.AssetExecutionContext):
    client = PipesRayJobClient(address={address!r})
    print("BEGIN", flush=True)
    return client.run(
        context=context,
        submit_job_params={{"entrypoint": {entrypoint!r}, "metadata": {{"mark": {mark!r}}}}},
    ).get_results()


if __name__ == "__main__":
    dg.materialize([scripted])
"""


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_an_interrupt_at_any_moment_stops_the_job(
    ray_head: RayHead, script: Write, tmp_path: Path
) -> None:
    entrypoint = script("import time\nprint('up', flush=True)\ntime.sleep(600)\n")
    marks = f"interrupted-{os.getpid()}-"

    def interrupted(number: int) -> None:
        file = tmp_path / f"interrupted_{number}.py"
        file.write_text(
            INTERRUPTED.format(address=ray_head.url, entrypoint=entrypoint, mark=f"{marks}{number}")
        )
        process = subprocess.Popen(
            [sys.executable, str(file)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"BEGIN\n"
        # The moments range from the first request to the running script.
        time.sleep(moments[number])
        process.send_signal(signal.SIGINT)
        process.stdout.close()
        process.wait(60)

    generator = random.Random(7)
    moments = [generator.uniform(0, 5) for _ in range(20)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(interrupted, range(20)))
    ended = {
        (job.get("metadata") or {}).get("mark", ""): job["status"]
        for job in ray_head.jobs().values()
    }
    statuses = {mark: status for mark, status in ended.items() if mark.startswith(marks)}
    assert statuses, "every interrupt came before the submission"
    assert {"PENDING", "RUNNING"}.isdisjoint(statuses.values()), statuses


def test_terminating_the_run_stops_the_job_once(
    ray_head: RayHead, proxy: FaultProxy, script: Write, tmp_path: Path
) -> None:
    entrypoint = script("import time\nprint('up', flush=True)\ntime.sleep(600)\n")
    file = tmp_path / "interrupted.py"
    file.write_text(INTERRUPTED.format(address=proxy.url, entrypoint=entrypoint, mark="once"))
    process = subprocess.Popen([sys.executable, str(file)])

    def status() -> set[str]:
        jobs = ray_head.jobs().values()
        return {job["status"] for job in jobs if (job.get("metadata") or {}).get("mark") == "once"}

    wait_for("the script", lambda: status() == {"RUNNING"}, 60)
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert status() == {"STOPPED"}
    assert sum(request.path.endswith("/stop") for request in proxy.requests) == 1


def _away(proxy: FaultProxy) -> list[Fault]:
    faults = [Fault("GET", ".*", 503), Fault("POST", ".*", 503)]
    proxy.faults += faults
    return faults


@pytest.mark.nightly
def test_an_outage_after_the_end_of_a_script_does_not_lose_its_result(
    ray_head: RayHead, proxy: FaultProxy, script: Write
) -> None:
    mark = f"ended-{os.getpid()}"

    def has_ended() -> bool:
        jobs = ray_head.jobs().values()
        return any(
            job["status"] == "SUCCEEDED" and (job["metadata"] or {}).get("mark") == mark
            for job in jobs
        )

    hits: list[int] = []

    def trouble() -> None:
        wait_for("the end of the script", has_ended, 60)
        faults = _away(proxy)
        proxy.break_streams()
        time.sleep(12)
        proxy.faults.clear()
        hits.append(sum(fault.hits for fault in faults))

    thread = threading.Thread(target=trouble)
    thread.start()
    params = {"entrypoint": script("print('done')\n"), "metadata": {"mark": mark}}
    result, _ = run_script(PipesRayJobClient(address=proxy.url), params)
    thread.join()
    assert result.success
    assert hits[0] > 4
    assert not proxy.recorded("POST", ".*/stop")


def test_a_script_that_was_given_up_is_stopped_at_the_next_contact(
    ray_head: RayHead, proxy: FaultProxy, script: Write
) -> None:
    mark = f"given-up-{os.getpid()}"
    client = PipesRayJobClient(
        address=proxy.url,
        unreachable_timeout=3,
        backend_config={"patience": {"request_seconds": 1}},
    )

    def status() -> set[str]:
        jobs = ray_head.jobs().values()
        return {job["status"] for job in jobs if (job["metadata"] or {}).get("mark") == mark}

    def trouble() -> None:
        wait_for("the script", lambda: status() == {"RUNNING"}, 60)
        _away(proxy)
        proxy.break_streams()

    thread = threading.Thread(target=trouble)
    thread.start()
    entrypoint = script("import time\nprint('up', flush=True)\ntime.sleep(600)\n")
    with pytest.raises(UnavailableError):
        run_script(client, {"entrypoint": entrypoint, "metadata": {"mark": mark}})
    thread.join()
    assert status() == {"RUNNING"}
    proxy.faults.clear()
    run_script(client, {"entrypoint": script("print('another')\n")})
    wait_for("the end of the script that was given up", lambda: status() == {"STOPPED"}, 60)
