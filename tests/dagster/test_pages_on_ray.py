"""Runs examples of the pages on Ray. test_kuberay_readme.py runs those that need KubeRay."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from component_files import built_in
from dagster._core.definitions.reconstruct import ReconstructableJob
from document_blocks import page, page_block, whole_page
from example_commands import run_example, run_shell
from follow_page import check_shown, follow
from printed_configs import Home, executed
from ray_head import RayHead

QUICK_START = whole_page("README.md", "Quick start")
TUTORIAL = whole_page("docs/tutorial.md")


@pytest.fixture
def variables(ray_head: RayHead, tmp_path: Path) -> dict[str, str]:
    """The environment of a user whose packages are those of this environment.

    The tests' Ray is used, because a Ray started here could belong to another test.
    """
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # There, steps run in another directory, so Python finds a user's files by this variable.
    return {"RAY_ADDRESS": ray_head.url, "PATH": programs, "TMPDIR": str(tmp_path)}


def _in_folder(text: str, folder: Path) -> str:
    """Names the files of a page by their absolute paths: steps run in Ray's own directory."""
    return re.sub(r"-f (\w+\.py)", lambda found: f"-f {folder}/{found[1]}", text)


@pytest.mark.nightly
def test_the_quick_start_can_be_followed(variables: dict[str, str], tmp_path: Path) -> None:
    text = _in_folder(QUICK_START, tmp_path)
    follow(text, tmp_path, section="Quick start", variables=variables)


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_the_tutorial_can_be_followed(variables: dict[str, str], tmp_path: Path) -> None:
    follow(_in_folder(TUTORIAL, tmp_path), tmp_path, variables=variables)


def test_the_commands_of_the_example_with_two_stages(ray_head: RayHead, tmp_path: Path) -> None:
    printed = run_example("kuberay", tmp_path, {"RAY_ADDRESS": ray_head.url})
    assert "in Ray job dagster-step-" in printed


def test_the_commands_of_the_example_with_an_existing_cluster(
    ray_head: RayHead, tmp_path: Path
) -> None:
    printed = run_example("existing-cluster", tmp_path, {"RAY_DASHBOARD": ray_head.url})
    assert "in Ray job dagster-step-" in printed


@page("docs/how-to/existing-cluster.md", "Steps as Ray jobs", "python")
def test_the_executor_example_runs_its_step_on_ray(
    printed: str, home: Home, ray_head: RayHead, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray_head.url)
    job = ReconstructableJob.for_file(str(_file(tmp_path, printed)), "training")
    with dg.execute_job(job, instance=home({})) as result:
        assert result.success
        [name] = ray_head.jobs(result.run_id)
    assert name == f"dagster-step-{result.run_id}-train"


@page("docs/how-to/steps-as-tasks.md", "Choose for each step", "python")
def test_the_example_of_tasks_runs_one_step_as_a_task_and_one_as_a_job(
    printed: str, ray_head: RayHead, monkeypatch: Any, tmp_path: Path, home: Home
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray_head.url)
    job = ReconstructableJob.for_file(str(_file(tmp_path, printed)), "pipeline")
    with dg.execute_job(job, instance=home({}), raise_on_error=False) as result:
        assert result.success, [event.message for event in result.all_events]
        [name] = ray_head.jobs(result.run_id)
    assert name == f"dagster-step-{result.run_id}-train"


@page("docs/how-to/values.md", "In Ray", "python")
def test_the_values_example_stores_the_upstream_value_in_ray(
    printed: str, ray_head: RayHead, monkeypatch: Any
) -> None:
    import ray

    monkeypatch.setenv("RAY_ADDRESS", ray_head.gcs)
    try:
        job = executed(printed)["defs"].resolve_implicit_global_asset_job_def()
        result = job.execute_in_process()
        assert result.success
        kept = [
            event.step_key
            for event in result.all_events
            if event.event_type == dg.DagsterEventType.HANDLED_OUTPUT
            and event.event_specific_data.manager_key == "ray_io_manager"
        ]
        assert kept == ["upstream"]
    finally:
        ray.shutdown()


@page("docs/how-to/this-machine.md", "Ray in the code of an asset", "python")
def test_an_asset_uses_ray_in_its_own_code(
    printed: str, ray_head: RayHead, monkeypatch: Any
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray_head.gcs)
    job = executed(printed)["defs"].resolve_implicit_global_asset_job_def()
    assert job.execute_in_process().output_for_node("squares") == [0, 1, 4, 9]


SCRIPT = page_block("docs/how-to/training-scripts.md", "The script", "python")


@pytest.mark.timeout(400)
@page("docs/how-to/training-scripts.md", "The asset", "python")
def test_the_pipes_example_reports_metadata(
    printed: str, ray_head: RayHead, tmp_path: Path, monkeypatch: Any
) -> None:
    """`working_dir` and `pip` are as printed.

    The folder is uploaded, and pip finds dagster-pipes in Ray's environment.
    """
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "score.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    # The variable overrides the printed address.
    monkeypatch.setenv("RAY_ADDRESS", ray_head.url)
    job = executed(printed)["defs"].resolve_implicit_global_asset_job_def()
    result = job.execute_in_process()
    [event] = result.asset_materializations_for_node("scored")
    assert event.metadata["param"].value == "value"
    assert event.metadata["accuracy"].value == 0.875
    [ran] = ray_head.jobs(result.run_id).values()
    assert ran["runtime_env"]["working_dir"].startswith("gcs://")


CHECKED = page_block("docs/what-ray-needs.md", "Check it", "text")


@page("docs/what-ray-needs.md", "Check it", "shell")
def test_the_printed_command_asks_the_cluster(
    printed: str, ray_head: RayHead, tmp_path: Path
) -> None:
    shown = run_shell(printed.replace("http://ray-head:8265", ray_head.url), tmp_path)
    check_shown(CHECKED, re.sub(r"\x1b\[[0-9;]*m", "", shown))


UNINSTALLED = """
import dagster as dg
from dagster_ray import ray_executor


@dg.op
def never() -> None: ...


@dg.job(executor_def=ray_executor.configured({"env_vars": ["PATH=/usr/bin:/bin"]}))
def uninstalled() -> None:
    never()
"""


def test_a_worker_without_dagster_fails_with_the_page_about_what_ray_needs(
    home: Home, ray_head: RayHead, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray_head.url)
    job = ReconstructableJob.for_file(str(_file(tmp_path, UNINSTALLED)), "uninstalled")
    with dg.execute_job(job, instance=home({}), raise_on_error=False) as result:
        [failure] = [event for event in result.all_events if event.is_step_failure]
    error = failure.step_failure_data.error
    assert error
    text = error.to_string()
    assert "The program `dagster` is not installed in Ray's environment" in text
    assert "docs/what-ray-needs.md" in text


# Commands that need neither a registry nor a project to build, and take seconds.
RUN_AT_ONCE = {"components", "inspect", "call", "record", "replay", "clean"}
JOBS = """
import dagster as dg
from dagster_ray import PipesRayJobClient


@dg.op
def scripted(context):
    PipesRayJobClient().run(context=context, submit_job_params={"entrypoint": "true"})


@dg.job
def scripts():
    scripted()
"""


@page("docs/reference/command.md", "The command `dagster-ray`", "shell")
def test_the_printed_commands_and_options_exist(
    printed: str, ray_head: RayHead, tmp_path: Path
) -> None:
    """Each command and option exists. The commands in RUN_AT_ONCE are also run as printed."""
    built_in("existing", tmp_path / "mine.wasm")
    (tmp_path / "jobs.py").write_text(JOBS)
    programs = Path(sys.executable).parent
    environment = {
        **os.environ,
        "DAGSTER_RAY_CACHE_DIR": str(tmp_path / "cache"),
        "DAGSTER_HOME": str(tmp_path),
        "RAY_ADDRESS": ray_head.url,
        "PATH": f"{programs}:{os.environ['PATH']}",
    }
    # The module is run, so that the test needs no `dagster-ray` on the path.
    command = [sys.executable, "-m", "dagster_ray"]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *words],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env=environment,
        )

    seen = set()
    for line in printed.splitlines():
        program, name, *words = shlex.split(line, comments=True)
        assert program == "dagster-ray", line
        seen.add(name)
        own = words[: words.index("--")] if "--" in words else words
        described = run(name, "--help")
        assert described.returncode == 0, described.stderr
        for option in (word for word in own if word.startswith("--")):
            assert re.search(rf"{option}\s", described.stdout), f"{line}: {option} is unknown"
        if name in RUN_AT_ONCE:
            done = run(name, *words)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    assert seen >= RUN_AT_ONCE


def _file(folder: Path, text: str) -> Path:
    file = folder / "printed_example.py"
    file.write_text(text)
    return file
