"""`ray_job_op`, `ray_job_asset` and `execute_ray_job`: scripts as Ray jobs."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster_ray import execute_ray_job, ray_job_asset, ray_job_op
from dagster_ray.errors import (
    CallTimeoutError,
    InvalidConfigError,
    PermissionDeniedError,
    ScriptFailedError,
)
from dagster_ray.ops.clients import client_for
from dagster_ray.ops.config import RayJobConfig, RayJobOptions
from dagster_ray.testing import SimulatedRay
from document_blocks import blocks, whole_page
from packaging.version import Version
from pipes_script import Write
from ray_head import RayHead

PAGE = whole_page("docs/functions.md")
SCHEDULING = whole_page("docs/scheduling.md", "Nodes of an existing Ray")
REPORTS = """
    from dagster_pipes import open_dagster_pipes

    with open_dagster_pipes() as pipes:
        key = pipes.asset_key if pipes.is_asset_step else "elsewhere"
        pipes.report_asset_materialization({"rows": pipes.get_extra("rows")}, asset_key=key)
"""


def _executed(op: dg.OpDefinition, **config: Any) -> dg.ExecuteInProcessResult:
    @dg.job
    def scripts() -> None:
        op()

    run_config = {"ops": {op.name: {"config": config}}} if config else None
    return scripts.execute_in_process(run_config)


def test_an_op_runs_a_command_with_its_options(
    simulated_ray: SimulatedRay, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLOR", "blue")
    op = ray_job_op.configured(
        {
            "entrypoint": "echo the color is $COLOR, the shape $SHAPE",
            "env_vars": ["COLOR", "SHAPE=round"],
            "metadata": {"team": "x"},
            "num_cpus": 0.5,
        },
        name="paints",
    )
    result = _executed(op)
    assert "the color is blue, the shape round\n" in capfd.readouterr().out
    [job] = simulated_ray.jobs
    assert job.metadata["team"] == "x"
    [output] = [one for one in result.all_events if one.event_type_value == "STEP_OUTPUT"]
    assert output.step_output_data.metadata["Ray Job ID"].value == job.submission_id


def test_a_script_of_an_op_reports_materializations(
    simulated_ray: SimulatedRay, script: Write
) -> None:
    result = _executed(ray_job_op, entrypoint=script(REPORTS), extras={"rows": 3})
    [event] = [one for one in result.all_events if one.event_type_value == "ASSET_MATERIALIZATION"]
    assert event.materialization.asset_key == dg.AssetKey("elsewhere")
    assert event.materialization.metadata["rows"].value == 3


def test_ops_are_ordered_without_values(simulated_ray: SimulatedRay, tmp_path: Path) -> None:
    first = ray_job_op.configured({"entrypoint": f"sleep 1; touch {tmp_path}/made"}, name="first")
    second = ray_job_op.configured({"entrypoint": f"cat {tmp_path}/made"}, name="second")

    @dg.job
    def ordered() -> None:
        second(start_after=first())

    assert ordered.execute_in_process().success


def test_assets_have_what_their_script_reports(simulated_ray: SimulatedRay, script: Write) -> None:
    entrypoint = script(REPORTS)
    asset = ray_job_asset(
        lambda context: f"{entrypoint} {context.partition_key}",
        dg.AssetSpec("rows", group_name="scripts"),
        partitions_def=dg.StaticPartitionsDefinition(["a"]),
        extras={"rows": 4},
    )
    result = dg.materialize([asset], partition_key="a")
    [event] = result.asset_materializations_for_node("rows")
    assert event.metadata["rows"].value == 4
    [job] = simulated_ray.jobs
    assert event.metadata["Ray Job ID"].value == job.submission_id


def test_a_failed_command_fails_the_step_with_rays_reason(simulated_ray: SimulatedRay) -> None:
    with pytest.raises(ScriptFailedError) as failed:
        _executed(ray_job_op, entrypoint="echo no rows; exit 3")
    assert failed.value.exit_code == 3 and "no rows" in str(failed.value)


def test_an_invalid_option_is_reported_when_the_code_is_loaded() -> None:
    with pytest.raises(InvalidConfigError, match="num_cpus"):
        ray_job_asset("true", "a", num_cpus="two")  # type: ignore[arg-type]
    with pytest.raises(InvalidConfigError, match="ray_job: is a manifest for KubeRay"):
        _executed(ray_job_op, entrypoint="true", ray_job={"spec": {}})
    with pytest.raises(InvalidConfigError, match="backend_programs: has no effect"):
        client_for({"backend": "kuberay", "backend_programs": {}}, timeout=1)


def test_on_kuberay_a_script_gets_a_cluster_of_its_own(simulated_ray: SimulatedRay) -> None:
    manifest = {"metadata": {"namespace": "scripts"}, "spec": {"entrypoint": "true"}}
    _executed(ray_job_op, entrypoint="true", backend="kuberay", ray_job=manifest)
    [job] = simulated_ray.jobs
    # Only the client for KubeRay adds this label.
    assert job.metadata["dagster/deployment"] == "dev"


def test_the_keyword_arguments_are_the_fields_of_the_configuration() -> None:
    fields = RayJobConfig.model_fields.keys() - {"entrypoint"}
    assert RayJobOptions.__annotations__.keys() == fields


def test_run_config_chooses_no_connection_and_no_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_RAY_POLICY")
    monkeypatch.setenv("DATABASE_URL", "secret-value")

    @dg.graph
    def inner() -> None:
        ray_job_op()

    @dg.job
    def scripts() -> None:
        inner()

    for field, value, line in (
        ("address", "http://evil:8265", "addresses"),
        ("backend", "/tmp/evil.wasm", "backends"),
        ("env_vars", ["DATABASE_URL"], 'env_vars = ["DATABASE_URL"]'),
        ("metadata", {"url": {"env": "DATABASE_URL"}}, 'env_vars = ["DATABASE_URL"]'),
        ("runtime_env", {"working_dir": "/etc"}, "directories"),
        ("runtime_env", {"env_vars": {"A": {"env": "DATABASE_URL"}}}, "env_vars"),
    ):
        config = {"entrypoint": "true", field: value}
        ops = {"inner": {"ops": {"ray_job_op": {"config": config}}}}
        with pytest.raises(PermissionDeniedError) as denied:
            scripts.execute_in_process({"ops": ops})
        text = str(denied.value)
        assert f"ops.inner.ops.ray_job_op.config.{field}" in text and line in text, text
        assert "secret-value" not in text


def test_a_script_runs_on_a_real_ray_and_is_stopped_with_its_step(
    ray_head: RayHead, script: Write
) -> None:
    @dg.op
    def runs(context: dg.OpExecutionContext) -> list[Any]:
        done = execute_ray_job(
            context,
            script(
                """
                from dagster_pipes import open_dagster_pipes

                with open_dagster_pipes() as pipes:
                    pipes.report_custom_message(pipes.get_extra("rows"))
                """
            ),
            address=ray_head.url,
            extras={"rows": 5},
            num_cpus=0.1,
        )
        return list(done.get_custom_messages())

    @dg.job
    def scripts() -> None:
        runs()

    result = scripts.execute_in_process()
    assert result.output_for_node("runs") == [5]
    [job] = ray_head.jobs(result.run_id).values()
    assert job["status"] == "SUCCEEDED"


@pytest.mark.skipif(
    Version(version("ray")) < Version("2.49"), reason="Ray 2.49 and later select by labels"
)
def test_the_label_selector_of_the_page_keeps_jobs_from_other_nodes(ray_head: RayHead) -> None:
    [text] = [
        block.text for block in blocks(SCHEDULING) if block.heading == "Nodes of an existing Ray"
    ]
    options = {**yaml.safe_load(text), "address": ray_head.url}
    assert options["label_selector"]
    # The head has no labels of its own.
    with pytest.raises(CallTimeoutError, match="has not started within 3 s"):
        _executed(ray_job_op, entrypoint="true", timeout=3.0, **options)


@pytest.mark.parametrize("heading", ["Functions", "Scripts"])
def test_the_examples_of_the_page_run(
    heading: str, simulated_ray: SimulatedRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/report.py").write_text("print('reported')")
    [text] = [
        block.text
        for block in blocks(PAGE)
        if (block.heading, block.language) == (heading, "python")
    ]
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(text, "functions.md", "exec"), names)
    if heading == "Functions":
        result = dg.materialize([names["model"]])
        assert result.output_for_node("model") == {"level": 3}
        return
    defs: dg.Definitions = names["defs"]
    assert defs.resolve_job_def("cleanup").execute_in_process().success
    assert dg.materialize([names["report"]]).success
    assert len(simulated_ray.jobs) == 2, json.dumps([job.metadata for job in simulated_ray.jobs])
