"""Runs the code blocks of README.md. test_kuberay_readme.py runs those that need Kubernetes."""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from component_files import FIXTURES, built_in, put
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster_ray import RayRunLauncher
from dagster_ray.configs import RayExecutorConfig, RayLauncherConfig
from dagster_ray.errors import ComponentLoadError
from dagster_ray.specs import worker_spec
from document_blocks import README, blocks, readme, readme_block, unclaimed
from packaging.requirements import Requirement
from ray_head import RayHead

ROOT = Path(__file__).parents[2]

Home = Callable[[dict], dg.DagsterInstance]


def test_every_block_of_the_readmes_is_run_by_a_test() -> None:
    # The decorators in these modules record the blocks that are run.
    for module in ("test_kuberay_readme", "test_kuberay_role", "test_seed_readme"):
        import_module(module)
    unused = unclaimed()
    assert not unused, f"no test runs {', '.join(sorted(unused))}"


def test_blocks_are_identified_by_heading_language_and_number() -> None:
    document = "# A\n```python\n# no heading\n```\n## B c\n```yaml\na: 1\n```\n```yaml\n```\n"
    found = [(block.key, block.text.strip()) for block in blocks(document)]
    assert found == [("A: python 1", "# no heading"), ("B c: yaml 1", "a: 1"), ("B c: yaml 2", "")]
    with pytest.raises(ValueError, match="has no closing fence"):
        list(blocks("# A\n```python\n"))


QUICK_START = readme_block("Quick start", "python")
QUICK_START_ENDS = readme_block("Quick start", "text")


@readme("What killed processes leave", "python")
def test_the_reconciling_job_and_its_sensor_can_be_loaded(printed: str) -> None:
    scope: dict[str, Any] = {}
    exec(printed, scope)
    repository = scope["defs"].get_repository_def()
    assert repository.has_job(scope["reconcile_ray"].name)
    assert repository.has_sensor_def(scope["reconcile_ray_sensor"].name)


@readme("Quick start", "shell")
def test_the_install_command_names_existing_extras(printed: str) -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    project = tomllib.loads((ROOT / "host/python/pyproject.toml").read_text())["project"]
    program, command, requirement = shlex.split(printed)
    assert (program, command) == ("pip", "install")
    parsed = Requirement(requirement)
    assert parsed.name == project["name"]
    assert parsed.extras <= project["optional-dependencies"].keys()


@readme("Quick start", "shell", 2)
def test_the_quick_start_runs_each_step_as_a_ray_job(
    printed: str, ray_head: RayHead, tmp_path: Path
) -> None:
    """The tests' Ray is used, because a Ray started here could belong to another test.

    There, steps run in another directory, so the file is named by its absolute path.
    """
    (tmp_path / "answer.py").write_text(QUICK_START)
    assert "-f answer.py" in printed
    printed = printed.replace("-f answer.py", f"-f {tmp_path}/answer.py")
    done = subprocess.run(
        ["bash", "-e", "-c", printed],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env={
            **os.environ,
            "RAY_ADDRESS": ray_head.url,
            "TMPDIR": str(tmp_path),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
    )
    assert done.returncode == 0, done.stderr
    lines = (done.stdout + done.stderr).splitlines()
    assert any(line.endswith(QUICK_START_ENDS.strip()) for line in lines), lines
    for step in ("number", "double"):
        assert any("in Ray job" in line and f"-{step}" in line for line in lines), lines


@readme("From source", "shell")
def test_the_xtask_commands_exist(printed: str) -> None:
    programs = sorted((ROOT / "target").glob("*/xtask"), key=lambda file: file.stat().st_mtime)
    if not programs:
        pytest.skip("cargo xtask is not built")
    for line in printed.splitlines():
        words = shlex.split(line, comments=True)
        assert words[:2] == ["cargo", "xtask"], line
        described = subprocess.run(
            [programs[-1], *words[2:], "--help"], capture_output=True, text=True
        )
        assert described.returncode == 0, described.stderr


def launcher_of(home: Home, printed: dict[str, Any]) -> RayRunLauncher:
    """Returns the run launcher of an instance with this dagster.yaml."""
    launcher = home(printed).run_launcher
    assert isinstance(launcher, RayRunLauncher)
    return launcher


def planned(launcher: RayRunLauncher) -> dict[str, Any]:
    """Returns the component's plan for a step. The component validates the configuration."""
    backend = launcher.backend
    options = {**launcher._options, **backend.options}
    spec, _ = worker_spec(
        dg.DagsterRun(job_name="job", run_id="r"),
        deployment="d",
        attempt=0,
        argv=["dagster"],
        payload=None,
        env={},
        tags={},
        override=None,
        options=options,
    )
    [placement] = backend.call("executor.plan", {"steps": [{**spec, "step_key": "s"}]})
    if isinstance(placement, Exception):
        raise placement
    return placement["job"]


@readme("Configuration", "yaml")
def test_the_launcher_accepts_the_printed_configuration(
    printed: str, home: Home, monkeypatch: Any
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    launcher = launcher_of(home, yaml.safe_load(printed))
    assert launcher.backend.url == "http://ray-head:8265"
    assert launcher._options == {
        "num_cpus": 1,
        "env_vars": ["AWS_REGION", "STAGE=prod"],
        "runtime_env": {"pip": ["polars"]},
    }
    assert planned(launcher)["job"]["submission_id"].startswith("dagster-step-r")


def _file(folder: Path, text: str) -> Path:
    file = folder / "printed_example.py"
    file.write_text(text)
    return file


def test_the_readme_lists_all_fields_of_launcher_and_executor() -> None:
    _, _, rest = README.read_text().partition("\nFields: ")
    listed = re.findall(r"`([a-z_0-9]+)`", rest.partition(";")[0])
    assert sorted(listed) == sorted(RayLauncherConfig.model_fields)
    assert set(listed) <= set(RayExecutorConfig.model_fields)


@readme("Configuration", "python")
def test_the_executor_example_runs_its_step_on_ray(
    printed: str, home: Home, ray_head: RayHead, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray_head.url)
    job = ReconstructableJob.for_file(str(_file(tmp_path, printed)), "training")
    with dg.execute_job(job, instance=home({})) as result:
        assert result.success
        [name] = ray_head.jobs(result.run_id)
    assert name == f"dagster-step-{result.run_id}-train"


@readme("Steps as Ray tasks", "python")
def test_the_example_of_tasks_runs_one_step_as_a_task_and_one_as_a_job(
    printed: str, ray_head: RayHead, monkeypatch: Any, tmp_path: Path, home: Home
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray_head.url)
    job = ReconstructableJob.for_file(str(_file(tmp_path, printed)), "pipeline")
    with dg.execute_job(job, instance=home({}), raise_on_error=False) as result:
        assert result.success, [event.message for event in result.all_events]
        [name] = ray_head.jobs(result.run_id)
    assert name == f"dagster-step-{result.run_id}-train"


@readme("Values in Ray", "python")
def test_the_values_example_stores_the_upstream_value_in_ray(
    printed: str, ray_head: RayHead, monkeypatch: Any
) -> None:
    import ray

    monkeypatch.setenv("RAY_ADDRESS", ray_head.gcs)
    try:
        job = _executed(printed)["defs"].resolve_implicit_global_asset_job_def()
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


def _executed(text: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(text, "README.md", "exec"), names)
    return names


REPORTS = """
from dagster_pipes import open_dagster_pipes

with open_dagster_pipes() as pipes:
    pipes.report_asset_materialization(metadata={"param": pipes.get_extra("param")})
"""


@pytest.mark.timeout(400)
@readme("Scripts that report back", "python")
def test_the_pipes_example_reports_metadata(
    printed: str, ray_head: RayHead, tmp_path: Path, monkeypatch: Any
) -> None:
    """`working_dir` and `pip` are as printed.

    The folder is uploaded, and pip finds dagster-pipes in Ray's environment.
    """
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "score.py").write_text(REPORTS)
    monkeypatch.chdir(tmp_path)
    # The variable overrides the printed address.
    monkeypatch.setenv("RAY_ADDRESS", ray_head.url)
    job = _executed(printed)["defs"].resolve_implicit_global_asset_job_def()
    result = job.execute_in_process()
    [event] = result.asset_materializations_for_node("scored")
    assert event.metadata["param"].value == "value"
    [ran] = ray_head.jobs(result.run_id).values()
    assert ran["runtime_env"]["working_dir"].startswith("gcs://")


@readme("Another backend", "yaml")
def test_a_backend_can_be_a_component_file(printed: str, home: Home, tmp_path: Path) -> None:
    wasm = built_in("existing", tmp_path / "ours.wasm")
    launcher = _with_lines(home, printed.replace("/opt/backends/ours.wasm", str(wasm)))
    assert planned(launcher)["job"]["submission_id"].startswith("dagster-step-r")
    # The commented line shows the other form, an OCI reference.
    [line] = [line for line in printed.splitlines() if "#" in line]
    reference = yaml.safe_load(line.replace("# ", ""))["backend"]
    assert re.fullmatch(r"oci://[a-z./]+@sha256:[0-9a-f]{64}", reference)


@readme("Another backend", "yaml", 2)
def test_the_operators_grants_limits_and_digest_restrict_a_backend(
    printed: str, home: Home, tmp_path: Path
) -> None:
    [example] = re.findall(r"backend_sha256: ([0-9a-f]{64})", printed)

    def launcher(wasm: Path) -> RayRunLauncher:
        digest = hashlib.sha256(wasm.read_bytes()).hexdigest()
        return _with_lines(home, f"    backend: {wasm}\n{printed.replace(example, digest)}")

    pinned = launcher(put(FIXTURES / "echo.wasm", tmp_path / "ours.wasm"))
    assert pinned.backend.config.backend_grants == {
        "grants": {"http": ["address"]},
        "limits": {"memory_mib": 32},
    }
    assert planned(pinned)["job"]["submission_id"] == "echo-s"
    # A component that also requires the grant `packages` is refused.
    more = launcher(built_in("existing", tmp_path / "more.wasm"))
    with pytest.raises(ComponentLoadError, match="packages"):
        planned(more)
    # A file with another digest at the same path is not loaded.
    built_in("existing", tmp_path / "ours.wasm")
    with pytest.raises(ComponentLoadError, match="sha256"):
        planned(pinned)


def _with_lines(home: Home, lines: str) -> RayRunLauncher:
    """Returns a launcher whose configuration has these printed, indented lines."""
    config = {"address": "http://127.0.0.1:9", **yaml.safe_load(textwrap.dedent(lines))}
    launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": config}
    return launcher_of(home, {"run_launcher": launcher})


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


@readme("The command", "shell")
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


DEFINITIONS = """
import dagster as dg
from dagster_ray import ray_executor


@dg.op(retry_policy=dg.RetryPolicy(max_retries=1))
def train() -> float:
    return 0.9


@dg.job(executor_def=ray_executor)
def training() -> None:
    train()


defs = dg.Definitions(jobs=[training])
"""


@readme("Testing your jobs", "python")
def test_the_simulation_example_passes(printed: str, tmp_path: Path) -> None:
    project = tmp_path / "my_project"
    project.mkdir()
    (project / "definitions.py").write_text(DEFINITIONS)
    (tmp_path / "test_it.py").write_text(printed)
    # pytest finds the fixture of an installed package itself.
    found = [] if _is_installed() else ["-p", "dagster_ray.testing"]
    command = [sys.executable, "-m", "pytest", "-q", *found, "test_it.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 passed" in ran.stdout


def _is_installed() -> bool:
    from importlib.metadata import entry_points

    return any(found.name == "dagster_ray" for found in entry_points(group="pytest11"))


def test_an_invalid_configuration_fails_these_checks(home: Home) -> None:
    """Guards against checks that accept any printed text."""
    printed = yaml.safe_load(json.dumps({"run_launcher": {"module": "dagster_ray"}}))
    printed["run_launcher"] |= {"class": "RayRunLauncher", "config": {"num_cpu": 1}}
    with pytest.raises(dg.DagsterInvalidConfigError):
        launcher_of(home, printed)
