"""`PipesRayJobClient` on a real Ray."""

import gc
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster_ray import PipesRayJobClient
from dagster_ray.errors import InvalidConfigError, ScriptFailedError, UnavailableError
from dagster_ray.pipes import PipesRayJobMessageReader
from fault_proxy import Fault, FaultProxy
from irregular_output import IRREGULAR_OUTPUT, assert_complete
from processes import wait_for
from ray_head import RayHead

Write = Callable[[str], str]
# Injects a fault while a script runs, until the event is set.
Trouble = Callable[[RayHead, FaultProxy, threading.Event], None]


@pytest.fixture
def script(tmp_path: Path) -> Write:
    """Returns a function that writes a script and returns the command that runs it."""

    def write(body: str) -> str:
        file = tmp_path / f"script-{len(list(tmp_path.iterdir()))}.py"
        file.write_text(textwrap.dedent(body))
        return f"{sys.executable} {file}"

    return write


def _run(
    client: PipesRayJobClient,
    params: dict[str, Any],
    *,
    instance: dg.DagsterInstance | None = None,
    checked: bool = False,
    **more: Any,
) -> tuple[dg.ExecuteInProcessResult, list[Any]]:
    custom: list[Any] = []

    checks = [dg.AssetCheckSpec("fine", asset="scripted")] if checked else None

    @dg.asset(check_specs=checks)
    def scripted(context: dg.AssetExecutionContext):
        done = client.run(context=context, submit_job_params=params, **more)  # type: ignore[arg-type]
        custom.extend(done.get_custom_messages())
        return done.get_results()

    job = dg.Definitions(assets=[scripted]).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance)
    return result, custom


ALL_SORTS = """
    import sys
    from dagster_pipes import open_dagster_pipes

    with open_dagster_pipes() as context:
        assert context.get_extra("param") == "value"
        context.log.info("Hello from Ray Pipes!")
        print("plain line")
        print("an error line", file=sys.stderr)
        context.report_asset_materialization(
            metadata={"some_metric": {"raw_value": 57, "type": "int"}}, data_version="alpha"
        )
        context.report_asset_check("fine", passed=True)
        context.report_custom_message({"answer": 42})
"""


def test_a_script_can_report_logs_metadata_checks_and_custom_messages(
    ray_head: RayHead, script: Write, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    params = {
        "entrypoint": script(ALL_SORTS),
        "metadata": {"team": "x", "dagster/run-id": "of-the-caller"},
        "runtime_env": {"env_vars": {"SPEED": "1"}},
    }
    before = json.dumps(params)
    client = PipesRayJobClient(address=ray_head.url)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        result, custom = _run(
            client, params, instance=instance, checked=True, extra={"param": "value"}
        )
        assert json.dumps(params) == before, "the caller's dictionary is not modified"
        [event] = result.asset_materializations_for_node("scripted")
        assert event.metadata["some_metric"].value == 57
        assert event.tags is not None and event.tags["dagster/data_version"] == "alpha"
        job = str(event.metadata["Ray Job ID"].value)
        assert str(event.metadata["Ray Dashboard"].value).endswith(f"/#/jobs/{job}")
        assert result.get_asset_check_evaluations()[0].passed
        assert custom == [{"answer": 42}]
        logged = [entry.user_message for entry in instance.all_logs(result.run_id)]
        assert "Hello from Ray Pipes!" in logged
    out = capfd.readouterr().out
    assert "plain line\n" in out and "an error line\n" in out
    assert "__dagster_pipes" not in out
    known = ray_head.jobs(result.run_id)
    assert list(known) == [job] and known[job]["metadata"]["team"] == "x"


def test_one_client_can_run_scripts_concurrently_and_repeatedly(
    ray_head: RayHead, script: Write
) -> None:
    client = PipesRayJobClient(address=ray_head.url)
    params = {"entrypoint": script(ALL_SORTS)}
    random.seed(0)
    messages: list[Any] = []

    def one() -> None:
        random.seed(0)
        messages.append(_run(client, params, checked=True, extras={"param": "value"})[1])

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one()
    assert messages == [[{"answer": 42}]] * 4


def test_a_failed_script_reports_its_exception_and_state(
    ray_head: RayHead, script: Write, tmp_path: Path
) -> None:
    body = """
        from dagster_pipes import open_dagster_pipes

        with open_dagster_pipes():
            raise ValueError("the table is empty")
    """
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        client = PipesRayJobClient(address=ray_head.url)
        with pytest.raises(ScriptFailedError, match="failed") as failure:
            _run(client, {"entrypoint": script(body)}, instance=instance)
        [run] = instance.get_runs()
        errors = [
            entry.dagster_event.engine_event_data.error
            for entry in instance.all_logs(run.run_id)
            if entry.dagster_event and entry.dagster_event.is_engine_event
        ]
        assert any(error and "the table is empty" in error.message for error in errors)
    assert failure.value.state == "failed"


def test_all_invalid_parameters_are_reported_and_nothing_is_submitted(ray_head: RayHead) -> None:
    before = len(ray_head.jobs())
    with pytest.raises(InvalidConfigError) as refusal:
        _run(
            PipesRayJobClient(address=ray_head.url),
            {"entrypoint": 3, "entrypont": "x", "entrypoint_num_cpus": "two"},
        )
    assert {field["path"] for field in refusal.value.fields or []} == {
        "entrypoint",
        "entrypoint_num_cpus",
        "entrypont",
    }
    assert len(ray_head.jobs()) == before


def _irregular_output(script: Write, messages: int, lines: int) -> dict[str, Any]:
    return {"entrypoint": script(IRREGULAR_OUTPUT.format(messages=messages, lines=lines, pause=0))}


def test_large_output_arrives_exactly_once_in_bounded_memory(
    ray_head: RayHead, script: Write, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    client = PipesRayJobClient(address=ray_head.url)
    _run(client, _irregular_output(script, 10, 1))
    capfdbinary.readouterr()
    before = _reset_peak()
    _, custom = _run(client, _irregular_output(script, 200_000, 5))
    assert _peak() - before < 50 << 20
    assert_complete(custom, capfdbinary.readouterr().out, 200_000, 5)


def _reset_peak() -> int:
    """Resets the peak memory of this process and returns it, in bytes (proc_pid_clear_refs(5))."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


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


@pytest.mark.parametrize("trouble", [_cut_every_second, _away_for_20_seconds])
def test_output_arrives_completely_despite_connection_faults(
    ray_head: RayHead,
    proxy: FaultProxy,
    script: Write,
    capfdbinary: pytest.CaptureFixture[bytes],
    trouble: Trouble,
) -> None:
    _arrives_despite(trouble, ray_head, proxy, script, capfdbinary)


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
        _, custom = _run(PipesRayJobClient(address=proxy.url), {"entrypoint": script(body)})
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


def test_messages_are_found_anywhere_in_a_line() -> None:
    message = {"__dagster_pipes_version": "0.1", "method": "log", "params": {"message": "ü {"}}
    other_order = {"method": "x", "params": {"a": 1}, "__dagster_pipes_version": "0.1"}
    received: list[Any] = []

    class Handler:
        def handle_message(self, message: Any) -> None:
            received.append(message)

    receive = PipesRayJobMessageReader().output_callback(Handler())  # type: ignore[arg-type]
    text = json.dumps(message)
    lines = [
        text,
        "\r 50%|#####" + text,
        text + text,
        json.dumps(other_order),
        'not one: {"__dagster_pipes_version": ',
        json.dumps(message, ensure_ascii=False) + " tail",
    ]
    receive("stdout", "".join(f"{line}\n" for line in lines).encode())
    assert received == [message, message, message, message, other_order, message]


def test_custom_message_readers_and_context_injectors_work(
    ray_head: RayHead, script: Write, tmp_path: Path
) -> None:
    client = PipesRayJobClient(
        address=ray_head.url,
        context_injector=dg.PipesFileContextInjector(str(tmp_path / "context")),
        message_reader=dg.PipesFileMessageReader(str(tmp_path / "messages")),
    )
    _, custom = _run(
        client, {"entrypoint": script(ALL_SORTS)}, checked=True, extras={"param": "value"}
    )
    assert custom == [{"answer": 42}]


def _away(proxy: FaultProxy) -> list[Fault]:
    faults = [Fault("GET", ".*", 503), Fault("POST", ".*", 503)]
    proxy.faults += faults
    return faults


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
    result, _ = _run(PipesRayJobClient(address=proxy.url), params)
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
        _run(client, {"entrypoint": entrypoint, "metadata": {"mark": mark}})
    thread.join()
    assert status() == {"RUNNING"}
    proxy.faults.clear()
    _run(client, {"entrypoint": script("print('another')\n")})
    wait_for("the end of the script that was given up", lambda: status() == {"STOPPED"}, 60)
