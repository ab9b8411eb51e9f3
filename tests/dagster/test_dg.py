"""Components for `dg`: the commands in a scaffolded project and in the example, on a real Ray."""

import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster_ray.dg import RayPipesComponent
from dagster_ray.errors import InvalidConfigError
from example_commands import run_example, run_shell
from ray_head import RayHead


def test_the_commands_of_the_example(tmp_path: Path, ray_head: RayHead) -> None:
    addresses = {"RAY_ADDRESS": ray_head.gcs, "RAY_API_SERVER_ADDRESS": ray_head.url}
    printed = run_example("dg-project", tmp_path, addresses)

    for name in ("KubeRayCluster", "KubeRayPipes", "LocalRay", "RayPipes"):
        assert f"dagster_ray.dg.{name}Component" in printed
    assert "y = 1.99 x + 1.04" in printed
    assert "the squares are [0, 1, 4, 9]" in printed
    assert "ASSET_CHECK_EVALUATION" in printed and "error_is_small" in printed
    assert "this runs on Ray" in printed, "the scaffolded script runs as it is"
    scripts = [job for job in ray_head.jobs().values() if "train.py" in job["entrypoint"]]
    assert [job["status"] for job in scripts] == ["SUCCEEDED"]
    scaffolded = (tmp_path / "dg-project/src/shop/defs/nightly/defs.yaml").read_text()
    assert "namespace: ray" in scaffolded and "image: registry.example/train:3" in scaffolded


def test_a_new_project_finds_the_components_and_a_mistake_is_named(tmp_path: Path) -> None:
    run_shell("create-dagster project new --no-uv-sync", tmp_path)
    project = tmp_path / "new"
    path = {"PYTHONPATH": "src"}
    run_shell("dg scaffold defs dagster_ray.dg.RayPipesComponent train", project, path)
    defs = project / "src/new/defs/train/defs.yaml"
    defs.write_text(defs.read_text().replace("entrypoint:", "entry_point:"))
    with pytest.raises(AssertionError, match="entry_point"):
        run_shell("dg check yaml", project, path)


def test_a_script_without_assets_and_checks_is_refused() -> None:
    component = RayPipesComponent(entrypoint="python train.py")
    with pytest.raises(InvalidConfigError, match="name the assets"):
        component.build_defs(dg.ComponentTree.for_test().load_context)


def test_a_script_uses_the_client_of_a_resource(tmp_path: Path, ray_head: RayHead) -> None:
    from dagster_ray import PipesRayJobClient

    script = tmp_path / "script.py"
    script.write_text(
        "from dagster_pipes import open_dagster_pipes\n"
        "with open_dagster_pipes() as pipes:\n"
        "    pipes.report_asset_check('fresh', passed=pipes.get_extra('age') < 2, asset_key='a')\n"
    )
    component = RayPipesComponent(
        entrypoint=f"{sys.executable} {script}",
        name="looks",
        checks=[dg.AssetCheckSpec("fresh", asset="a")],
        extras={"age": 3},
        resource_key="pipes",
    )
    defs = dg.Definitions.merge(
        component.build_defs(dg.ComponentTree.for_test().load_context),
        dg.Definitions(
            assets=[dg.AssetSpec("a")],
            jobs=[dg.define_asset_job("looks_at_a", dg.AssetSelection.checks_for_assets("a"))],
            resources={"pipes": PipesRayJobClient(address=ray_head.url)},
        ),
    )
    result = defs.resolve_job_def("looks_at_a").execute_in_process()
    [evaluation] = result.get_asset_check_evaluations()
    assert (evaluation.check_name, evaluation.passed) == ("fresh", False)
