"""Third-party backends, built outside the workspace: the examples and `dagster-ray new`."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster._core.test_utils import create_run_for_test
from dagster_ray import PipesRayJobClient
from dagster_ray.backend import Backend
from dagster_ray.configs import BackendConfig
from dagster_ray.errors import DagsterRayError, InvalidConfigError, ScriptFailedError
from executions import Execute
from processes import command_lines, wait_for
from run_spec import RUN
from third_party_backends import (
    ROOT,
    Runner,
    build_project,
    build_python,
    command_runner,
    dagster_ray,
    example,
    packaged_sdk,
)

# The first build compiles the dependencies of all of them.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

JOBS = Path(__file__).parent / "code/third_party.py"
LANGUAGES = ("rust", "python")

Instance = Callable[[dict[str, Any]], dg.DagsterInstance]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("third-party")


@pytest.fixture(params=LANGUAGES)
def wasm(request: pytest.FixtureRequest, built: Path) -> Path:
    return example(request.param, built)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with command_runner(tmp_path_factory.mktemp("runner")) as runner:
        yield runner


class Project:
    """A project that `dagster-ray new` has created, with its component built.

    A Rust project is built with the SDK as a registry would deliver it.
    """

    def __init__(self, language: str, root: Path) -> None:
        self.command = ("new", "my-backend", "--language", language, "--into", str(root))
        made = dagster_ray(*self.command)
        assert made.returncode == 0, made.stderr
        self.printed = made.stdout
        self.folder = root / "my-backend"
        if language == "rust":
            sdk = self.folder / "vendor/dagster-ray-sdk"
            shutil.rmtree(sdk)
            packaged_sdk(root).rename(sdk)
        self.wasm = build_project(self.folder)


@pytest.fixture(
    scope="module",
    params=[
        LANGUAGES[0],
        *(pytest.param(name, marks=pytest.mark.nightly) for name in LANGUAGES[1:]),
    ],
)
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(request.param, tmp_path_factory.mktemp("new"))


@pytest.fixture
def execute(home: Instance) -> Iterator[Execute]:
    """Runs jobs whose steps use a backend."""
    with ExitStack() as stack:
        yield Execute(JOBS, home({}), stack)


def _launch(instance: dg.DagsterInstance, job: str, place: Path) -> dg.DagsterRun:
    place.mkdir()
    run = create_run_for_test(
        instance,
        job_name=job,
        # The steps inherit the backend of the run launcher.
        run_config={"execution": {"config": {"env_vars": [f"PLACE={place}"]}}},
        job_code_origin=ReconstructableJob.for_file(str(JOBS), job).get_python_origin(),
        status=dg.DagsterRunStatus.STARTING,
    )
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    return run


def _end(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    def ended() -> dg.DagsterRun | None:
        now = instance.get_run_by_id(run.run_id)
        return now if now and now.is_finished else None

    now = wait_for(f"the end of {run.run_id}", ended, 120)
    assert now is not None
    return now.status


def _launcher(config: dict[str, Any]) -> dict[str, Any]:
    return {"run_launcher": {"module": "dagster_ray", "class": "RayRunLauncher", "config": config}}


def _errors(result: dg.JobExecutionResult) -> dict[str, str]:
    """Returns the error texts of the failed steps by step key."""
    failures = {e.step_key: e.step_failure_data.error for e in result.get_step_failure_events()}
    return {key or "": error.to_string() if error else "" for key, error in failures.items()}


def test_steps_run_in_parallel_on_a_third_party_service(
    wasm: Path, runner: Runner, execute: Execute, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    backend = {"backend": str(wasm), "address": runner.url, "headers": runner.headers}
    result = execute("together", **backend, env_vars=[f"PLACE={place}"])
    assert result.success and result.output_for_node("add") == 2

    def ended() -> list[dict[str, Any]]:
        # A worker ends shortly after its step.
        jobs = list(runner.jobs(result.run_id).values())
        return jobs if all(job["ended"] for job in jobs) else []

    jobs = wait_for("the end of all workers", ended)
    assert {job["labels"]["dagster/step-key"] for job in jobs} == {"first", "left", "right", "add"}
    assert {job["state"] for job in jobs} == {"succeeded"}


def test_step_failures_show_the_exception_exit_code_or_invalid_option(
    wasm: Path, runner: Runner, execute: Execute
) -> None:
    backend = {"backend": str(wasm), "address": runner.url, "headers": runner.headers}
    result = execute("broken", **backend)
    errors = _errors(result)
    assert "this op cannot do it" in errors["breaks"]
    assert "exit code 3" in errors["leaves"]

    unknown = execute("broken", **backend, backend_config={"queue": "long"})
    [error] = _errors(unknown).values()
    assert "queue" in error and "directory" in error, "the known keys are named"


def test_a_run_and_its_steps_are_launched_and_stopped(
    wasm: Path, runner: Runner, home: Instance, tmp_path: Path
) -> None:
    config = {"backend": str(wasm), "address": runner.url, "headers": runner.headers}
    instance = home(_launcher(config))
    place = tmp_path / "place"
    run = _launch(instance, "staying", place)
    wait_for("both steps", lambda: len(list(place.glob("*.started"))) == 2, 120)
    assert len(runner.jobs(run.run_id)) == 3, "one job for the run and two for its steps"
    launcher = instance.run_launcher
    assert launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING

    assert launcher.terminate(run.run_id)
    assert _end(instance, run) == dg.DagsterRunStatus.CANCELED
    assert len(list(place.glob("*.cleaned"))) == 2
    assert {job["state"] for job in runner.jobs(run.run_id).values()} == {"stopped"}
    assert not [line for line in command_lines().values() if run.run_id in line]

    run = _launch(instance, "together", tmp_path / "another-place")
    assert _end(instance, run) == dg.DagsterRunStatus.SUCCESS


SCRIPT = """
import time
from dagster_pipes import open_dagster_pipes

with open_dagster_pipes() as context:
    for number in range(3):
        print("line", number, flush=True)
        time.sleep(0.3)
    speed = context.get_extra("speed")
    context.report_asset_materialization(metadata={"speed": speed})
    if speed > 9:
        raise ValueError("too fast")
"""


def test_a_pipes_script_reports_metadata_output_and_failure(
    wasm: Path, runner: Runner, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    client = PipesRayJobClient(runner.url, headers=runner.headers, backend=str(wasm))

    def run(speed: int) -> dg.ExecuteInProcessResult:
        @dg.asset
        def scripted(context: dg.AssetExecutionContext):
            return client.run(
                context=context,
                submit_job_params={"entrypoint": f"{sys.executable} {script}"},
                extras={"speed": speed},
            ).get_results()

        return dg.materialize([scripted])

    [event] = run(5).asset_materializations_for_node("scripted")
    assert event.metadata["speed"].value == 5
    assert "line 0\nline 1\nline 2\n" in capfd.readouterr().out
    with pytest.raises(ScriptFailedError, match="exit code 1"):
        run(10)


def test_the_host_sends_the_configured_token(wasm: Path, runner: Runner) -> None:
    with_token = Backend(
        BackendConfig(backend=str(wasm), address=runner.url, headers=runner.headers)
    )
    planned = with_token.call("launcher.plan", {"run": RUN})
    run = planned["job"]
    assert with_token.call("launcher.check", {"runs": [run]})[0]["state"] == "missing"
    without = Backend(BackendConfig(backend=str(wasm), address=runner.url))
    off = {**RUN, "options": '{"enabled": false}'}
    assert with_token.call("launcher.plan", {"run": off}) == "local"
    with pytest.raises(DagsterRayError, match="send the token"):
        without.call("launcher.check", {"runs": [run]})


def test_the_examples_pass_the_conformance_tests(wasm: Path, runner: Runner) -> None:
    header = "Authorization=" + runner.headers["Authorization"]
    checked = dagster_ray("check", str(wasm), "--address", runner.url, "--header", header)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_new_project_passes_the_conformance_tests(project: Project) -> None:
    checked = dagster_ray("check", str(project.wasm))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def _sdk(folder: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Returns the files of the SDK, and what its manifest says about the package."""
    by_cargo = ("Cargo.toml", "Cargo.toml.orig", ".cargo_vcs_info.json")
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    command = ("cargo", "metadata", "--no-deps", "--offline", "--format-version", "1")
    read = subprocess.run(command, cwd=folder, capture_output=True, check=True)
    [package] = json.loads(read.stdout)["packages"]
    names = ("name", "version", "edition", "rust_version", "license", "dependencies")
    texts = {name: path.read_text() for name, path in files.items() if name not in by_cargo}
    return texts, {name: package[name] for name in names}


def test_a_new_rust_project_contains_the_packaged_sdk(tmp_path: Path) -> None:
    made = dagster_ray("new", "mine", "--language", "rust", "--into", str(tmp_path))
    assert made.returncode == 0, made.stderr
    assert _sdk(tmp_path / "mine/vendor/dagster-ray-sdk") == _sdk(packaged_sdk(tmp_path))


def test_a_new_project_runs_steps_and_reports_their_failures(
    project: Project, execute: Execute, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    result = execute("together", backend=str(project.wasm), env_vars=[f"PLACE={place}"])
    assert result.success and result.output_for_node("add") == 2
    errors = _errors(execute("broken", backend=str(project.wasm)))
    assert "this op cannot do it" in errors["breaks"]
    assert "the license server is unreachable" in errors["leaves"]
    wrong = execute("broken", backend=str(project.wasm), num_cpus=2)
    assert "num_cpus" in "".join(_errors(wrong).values())


def test_a_new_project_launches_and_stops_runs(
    project: Project, home: Instance, tmp_path: Path
) -> None:
    instance = home(_launcher({"backend": str(project.wasm)}))
    place = tmp_path / "place"
    run = _launch(instance, "staying", place)
    wait_for("both steps", lambda: len(list(place.glob("*.started"))) == 2, 120)
    assert instance.run_launcher.terminate(run.run_id)
    assert _end(instance, run) == dg.DagsterRunStatus.CANCELED
    assert len(list(place.glob("*.cleaned"))) == 2
    assert not [line for line in command_lines().values() if run.run_id in line]


def test_new_refuses_to_overwrite_a_project(project: Project) -> None:
    before = (project.folder / "README.md").read_text()
    again = dagster_ray(*project.command)
    assert again.returncode == 2
    assert "--into" in again.stderr and str(project.folder) in again.stderr
    assert (project.folder / "README.md").read_text() == before
    # The printed instructions are those that this test has followed.
    assert "wasm32-wasip2" in project.printed or "componentize-py" in project.printed
    assert f"backend: {project.folder / 'my_backend.wasm'}" in project.printed


def test_backend_programs_selects_the_interpreter_of_a_new_projects_workers(
    project: Project,
) -> None:
    programs = {"python": ["/nowhere/python"]}
    backend = Backend(BackendConfig(backend=str(project.wasm), backend_programs=programs))
    command = {"argv": ["dagster", "api", "execute_step"], "payload": None, "env": []}
    step: dict[str, Any] = {
        "deployment": "d",
        "run_id": "r",
        "step_key": "s",
        "attempt": 0,
        "job_name": "j",
        "code_location": None,
    }
    step |= {"command": command, "tags": [], "options": "{}"}
    with pytest.raises(DagsterRayError, match="/nowhere/python"):
        [failed] = backend.call("executor.launch", {"steps": [step]})
        raise failed
    with pytest.raises(InvalidConfigError, match=r"backend_programs\.python"):
        Backend(
            BackendConfig.validated(
                backend=str(project.wasm), backend_programs={"python": "/usr/bin/python3"}
            )
        ).call("executor.check", {"steps": []})


NOSY = """
import json, os, socket
from wit_world import exports
from wit_world.exports.describe import Description


def tried(what):
    try:
        return str(what())
    except Exception as error:
        return "refused: " + type(error).__name__


def connected(kind, target):
    with socket.socket(socket.AF_INET, kind) as opened:
        opened.connect(target)
        return opened.send(b"x")


class Describe(exports.Describe):
    def describe(self):
        found = {
            "environment": dict(os.environ),
            "root": tried(lambda: os.listdir("/")),
            "read": tried(lambda: open("/etc/passwd").read()),
            "write": tried(lambda: open("/tmp/nosy", "w")),
            "relative": tried(lambda: open("../secret").read()),
            "tcp": tried(lambda: connected(socket.SOCK_STREAM, ("127.0.0.1", 9))),
            "udp": tried(lambda: connected(socket.SOCK_DGRAM, ("127.0.0.1", 9))),
            "listen": tried(lambda: socket.create_server(("127.0.0.1", 0))),
            "names": tried(lambda: socket.getaddrinfo(b"localhost", 80)),
        }
        return Description("nosy", "0", json.dumps(found), [], [])
"""


@pytest.mark.nightly
def test_a_component_that_imports_files_and_sockets_is_denied_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "canary")
    (tmp_path.parent / "secret").write_text("canary")
    (tmp_path / "app.py").write_text(NOSY)
    world = "package local:nosy; world nosy { export dagster-ray:backend/describe@0.1.0; }"
    wit = tmp_path / "wit"
    shutil.copytree(ROOT / "wit/deps", wit / "deps")
    backend = wit / "deps/dagster-ray-backend"
    backend.mkdir()
    for file in (ROOT / "wit").glob("*.wit"):
        shutil.copy(file, backend)
    (wit / "world.wit").write_text(world)
    wasm = build_python(tmp_path, tmp_path, "-d", "wit", "-w", "nosy")
    card = Backend(BackendConfig(backend=str(wasm))).call("describe.describe", {})
    found = json.loads(card["summary"])
    assert found.pop("environment") == {}
    refusals = ("FileNotFoundError", "PermissionError", "gaierror")
    assert set(found.values()) <= {f"refused: {kind}" for kind in refusals}, found
