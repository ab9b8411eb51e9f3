"""`PipesRayJobClient` on a real Ray: reports, messages, parameters, and large output."""

import gc
import json
import random
import threading
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster_ray import PipesRayJobClient
from dagster_ray.errors import InvalidConfigError, ScriptFailedError
from dagster_ray.pipes import PipesRayJobMessageReader
from irregular_output import IRREGULAR_OUTPUT, assert_complete
from pipes_script import Write, run_script
from ray_head import RayHead

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
        result, custom = run_script(
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


def test_an_asset_that_returns_nothing_keeps_the_checks_of_its_script(
    ray_head: RayHead, script: Write
) -> None:
    link = "https://ray.example.org/jobs/{job}"
    client = PipesRayJobClient(address=ray_head.url, dashboard_link=link)
    params: Any = {"entrypoint": script(ALL_SORTS)}

    @dg.asset(check_specs=[dg.AssetCheckSpec("fine", asset="scripted")])
    def scripted(context: dg.AssetExecutionContext):
        client.run(context=context, submit_job_params=params, extras={"param": "value"})

    result = dg.materialize([scripted], instance=dg.DagsterInstance.ephemeral())
    [evaluation] = result.get_asset_check_evaluations()
    [event] = result.asset_materializations_for_node("scripted")
    assert (evaluation.check_name, evaluation.passed) == ("fine", True)
    target = evaluation.target_materialization_data
    assert target is not None and target.run_id == result.run_id
    assert event.metadata["some_metric"].value == 57
    job = str(event.metadata["Ray Job ID"].value)
    assert event.metadata["Ray Dashboard"].value == link.format(job=job)
    # Numbers, which Dagster plots.
    queued, ran = (event.metadata[f"Ray {name} Seconds"] for name in ("Queue", "Run"))
    assert isinstance(queued, dg.FloatMetadataValue) and isinstance(ran, dg.FloatMetadataValue)
    assert queued.value and queued.value > 0 and ran.value is not None


def test_one_client_can_run_scripts_concurrently_and_repeatedly(
    ray_head: RayHead, script: Write
) -> None:
    client = PipesRayJobClient(address=ray_head.url)
    params = {"entrypoint": script(ALL_SORTS)}
    random.seed(0)
    messages: list[Any] = []

    def one() -> None:
        random.seed(0)
        messages.append(run_script(client, params, checked=True, extras={"param": "value"})[1])

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
            run_script(client, {"entrypoint": script(body)}, instance=instance)
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
        run_script(
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
    run_script(client, _irregular_output(script, 10, 1))
    capfdbinary.readouterr()
    before = _reset_peak()
    _, custom = run_script(client, _irregular_output(script, 200_000, 5))
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
    _, custom = run_script(
        client, {"entrypoint": script(ALL_SORTS)}, checked=True, extras={"param": "value"}
    )
    assert custom == [{"answer": 42}]
