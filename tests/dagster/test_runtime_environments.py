"""`working_dir` and `pip` on a real Ray: a folder is uploaded, and a package is installed.

All tests use the same package, so that Ray installs it once. It is a wheel that the tests write,
so no package index is needed.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.launcher import LaunchRunContext
from dagster._core.test_utils import create_run_for_test
from dagster_ray import PipesRayJobClient
from processes import wait_for
from ray_head import RayHead
from wheel_files import write_wheel

Home = Callable[[dict], dg.DagsterInstance]

CODE = """
import json
from pathlib import Path

import dagster as dg
from dagster_ray import ray_executor


def found():
    # The package is installed only in the runtime environment of this job.
    import installed_for_one_job

    names = sorted(str(file) for file in Path.cwd().rglob("*") if file.is_file())
    return [
        installed_for_one_job.VALUE,
        Path("data/rows.txt").read_text(),
        [name.rpartition("/")[2] for name in names],
        str(Path.cwd()),
    ]


@dg.op
def looks():
    answer = found()
    Path(__file__).with_suffix(".json").write_text(json.dumps(answer))


@dg.job(executor_def=ray_executor)
def in_steps():
    looks()


@dg.job(executor_def=dg.in_process_executor)
def in_the_run():
    looks()
"""


@pytest.fixture(scope="module")
def wheel(ray_head: RayHead) -> Path:
    return write_wheel(
        ray_head.root / "own", "installed_for_one_job", {"installed_for_one_job.py": "VALUE = 42\n"}
    )


@pytest.fixture
def runtime_env(tmp_path: Path, wheel: Path) -> dict[str, Any]:
    folder = tmp_path / "to be uploaded"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "rows.txt").write_text("rows")
    (folder / "left-out.log").write_text("too large")
    return {"working_dir": str(folder), "excludes": ["*.log"], "pip": [str(wheel)]}


def _job(folder: Path, name: str) -> ReconstructableJob:
    file = folder / "looks.py"
    file.write_text(CODE)
    return ReconstructableJob.for_file(str(file), name)


def _assert_found(folder: Path, runtime_env: dict[str, Any]) -> None:
    """Asserts that the op found the uploaded files and the package."""
    value, rows, names, directory = json.loads((folder / "looks.json").read_text())
    assert (value, rows, names) == (42, "rows", ["rows.txt"])
    assert directory != runtime_env["working_dir"], "Ray runs the op in a copy of the folder"


def test_the_package_is_not_installed_in_this_environment() -> None:
    with pytest.raises(ImportError):
        __import__("installed_for_one_job")


@pytest.mark.nightly
@pytest.mark.timeout(400)
def test_a_step_gets_the_working_dir_and_pip_packages(
    home: Home, ray_head: RayHead, tmp_path: Path, runtime_env: dict[str, Any]
) -> None:
    config = {"address": ray_head.url, "runtime_env": runtime_env}
    with dg.execute_job(
        _job(tmp_path, "in_steps"),
        instance=home({}),
        run_config={"execution": {"config": config}},
        raise_on_error=False,
    ) as result:
        assert result.success, [event.message for event in result.all_events]
        _assert_found(tmp_path, runtime_env)
    [job] = ray_head.jobs(result.run_id).values()
    assert job["runtime_env"]["working_dir"].startswith("gcs://")


@pytest.mark.timeout(400)
def test_a_run_gets_the_working_dir_and_pip_packages(
    home: Home, ray_head: RayHead, tmp_path: Path, runtime_env: dict[str, Any]
) -> None:
    config = {"address": ray_head.url, "runtime_env": runtime_env}
    launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": config}
    instance = home({"run_launcher": launcher})
    job = _job(tmp_path, "in_the_run")
    run = create_run_for_test(
        instance,
        job_name="in_the_run",
        job_code_origin=job.get_python_origin(),
        status=dg.DagsterRunStatus.STARTING,
    )
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))

    def ended() -> dg.DagsterRun | None:
        now = instance.get_run_by_id(run.run_id)
        return now if now and now.is_finished else None

    finished = wait_for("the run", ended, 300)
    assert finished.status == dg.DagsterRunStatus.SUCCESS, [
        entry.message for entry in instance.all_logs(run.run_id)
    ]
    _assert_found(tmp_path, runtime_env)


@pytest.mark.timeout(400)
def test_a_script_gets_the_working_dir_and_pip_packages(
    ray_head: RayHead, tmp_path: Path, runtime_env: dict[str, Any]
) -> None:
    script = Path(runtime_env["working_dir"]) / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "import installed_for_one_job\n"
        "from dagster_pipes import open_dagster_pipes\n"
        "with open_dagster_pipes() as pipes:\n"
        "    rows = Path('data/rows.txt').read_text()\n"
        "    pipes.report_custom_message([installed_for_one_job.VALUE, rows])\n"
    )
    client = PipesRayJobClient(address=ray_head.url)
    received: list[Any] = []

    @dg.op
    def scripted(context: dg.OpExecutionContext) -> None:
        # The path is relative to the uploaded folder.
        params = {"entrypoint": "python script.py", "runtime_env": runtime_env}
        done = client.run(context=context, submit_job_params=params)  # type: ignore[arg-type]
        received.extend(done.get_custom_messages())

    @dg.job
    def scripts() -> None:
        scripted()

    scripts.execute_in_process()
    assert received == [[42, "rows"]]
