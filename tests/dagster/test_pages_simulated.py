"""Runs examples of the pages with `simulated_ray`: real processes, no Ray."""

import os
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster_ray.reconcile import reconcile_ray
from dagster_ray.testing import SimulatedRay
from document_blocks import page, page_block, whole_page
from example_commands import run_shell
from follow_page import follow
from printed_configs import executed

TESTING = whole_page("docs/how-to/test-your-jobs.md")


def test_the_page_about_tests_can_be_followed(tmp_path: Path) -> None:
    # pytest finds the fixture of an installed package itself.
    is_installed = any(found.name == "dagster_ray" for found in entry_points(group="pytest11"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    options = "" if is_installed else "-p dagster_ray.testing"
    follow(TESTING, tmp_path, variables={"PATH": path, "PYTEST_ADDOPTS": options})


@page("docs/how-to/values.md", "Partitions", "python")
def test_a_downstream_asset_gets_all_partitions(printed: str, simulated_ray: SimulatedRay) -> None:
    names = executed(printed)
    assets, instance = [names["sales"], names["week"]], simulated_ray.instance
    options: dict[str, Any] = {"instance": instance, "resources": names["defs"].resources}
    for key in ("monday", "tuesday"):
        made = dg.materialize(assets, selection=["sales"], partition_key=key, **options)
        assert made.success
    result = dg.materialize(assets, selection=["week"], **options)
    assert result.output_for_node("week") == 7


@page("docs/how-to/values.md", "In a directory", "python")
def test_a_value_is_kept_in_a_directory(printed: str, tmp_path: Path) -> None:
    printed = printed.replace("/data/values", str(tmp_path / "values"))
    definitions = executed(printed)["defs"]
    assert definitions.resolve_implicit_global_asset_job_def().execute_in_process().success
    assert any((tmp_path / "values").rglob("*"))


@page("docs/how-to/gpus-and-runtime-environments.md", "In code", "python")
def test_the_tag_reserves_resources_and_packages(
    printed: str, simulated_ray: SimulatedRay, tmp_path: Path
) -> None:
    result = simulated_ray.execute(_file(tmp_path, printed), job="training")
    assert result.success, result
    load, train = simulated_ray.jobs
    assert "pip" not in load.runtime_env
    assert train.runtime_env["pip"] == ["torch==2.9.0"]
    assert train.runtime_env["env_vars"]["OMP_NUM_THREADS"] == "4"  # type: ignore[index]


@page("docs/how-to/remove-leftovers.md", "From Dagster", "python")
def test_the_reconciling_job_and_its_sensor_can_be_loaded(printed: str) -> None:
    scope = executed(printed)
    repository = scope["defs"].get_repository_def()
    assert repository.has_job(reconcile_ray.name)
    assert repository.has_sensor_def(scope["reconcile_ray_sensor"].name)


@page("docs/how-to/remove-leftovers.md", "By hand", "shell")
def test_the_printed_command_lists_leftovers(printed: str, simulated_ray: SimulatedRay) -> None:
    root = simulated_ray.instance.root_directory
    launcher = "run_launcher: {module: dagster_ray, class: RayRunLauncher}\n"
    Path(root, "dagster.yaml").write_text(launcher)
    shown = run_shell(printed, Path(root), {"DAGSTER_HOME": root})
    assert "Nothing has outlived its run." in shown


REPORTING = page_block("docs/how-to/training-scripts.md", "The script", "python")


@page("docs/how-to/training-scripts.md", "On Kubernetes", "python")
def test_a_rayjob_runs_the_script(
    printed: str, simulated_ray: SimulatedRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "train.py"
    script.write_text(REPORTING.replace('pipes.get_extra("param")', "'none'"))
    text = printed.replace("python /code/train.py", f"{sys.executable} {script}")
    job = executed(text)["defs"].resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(tags={"dagster/image": "rayproject/ray:2.60.0"})
    [event] = result.asset_materializations_for_node("trained")
    assert event.metadata["accuracy"].value == 0.875


def _file(folder: Path, text: str) -> Path:
    file = folder / "printed_example.py"
    file.write_text(text)
    return file
