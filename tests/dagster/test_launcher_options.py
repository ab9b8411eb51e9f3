"""Where a run's options come from: the launcher, the code location, and the run's tag."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.launcher import LaunchRunContext
from dagster._core.test_utils import create_run_for_test
from dagster_ray import RayRunLauncher
from dagster_ray.errors import InvalidConfigError, PermissionDeniedError
from document_blocks import page
from fault_proxy import FaultProxy

JOBS = Path(__file__).parent / "code/steps.py"


def _launch(instance: dg.DagsterInstance, address: str, ray: object, tag: object = None) -> None:
    """Launches a run of a code location whose container context has `ray`."""
    origin = ReconstructableJob.for_file(str(JOBS), "single").get_python_origin()
    repository = origin.repository_origin._replace(container_context={"ray": ray})
    run = create_run_for_test(
        instance,
        job_name="single",
        job_code_origin=origin._replace(repository_origin=repository),
        tags={} if tag is None else {"dagster-ray/config": json.dumps(tag)},
    )
    launcher = RayRunLauncher(address=address, num_cpus=1, metadata={"team": "platform"})
    launcher.register_instance(instance)
    launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    launcher.terminate(run.run_id)


def test_options_of_the_code_location_are_above_the_launchers_and_below_the_tag(
    home: Any, proxy: FaultProxy
) -> None:
    # Ray does not have so many CPUs: the job stays pending.
    location = {"num_cpus": 1000, "num_gpus": 1, "env_vars": ["PLANET=Mars"]}
    _launch(home({}), proxy.url, location, {"num_gpus": 0.5})
    # The termination comes after it.
    submit, *_ = proxy.recorded("POST", "/api/jobs/")
    job = json.loads(submit.body)
    assert (job["entrypoint_num_cpus"], job["entrypoint_num_gpus"]) == (1000, 0.5)
    assert job["runtime_env"]["env_vars"]["PLANET"] == "Mars"
    assert job["metadata"]["team"] == "platform"


@page("docs/reference/configuration.md", "Where options come from", "shell")
def test_the_printed_command_sets_options_of_a_code_location(
    home: Any, proxy: FaultProxy, printed: str
) -> None:
    *command, option, context = shlex.split(printed)
    executable = Path(sys.executable).with_name(command[0])
    known = subprocess.run([executable, *command[1:3], "--help"], capture_output=True, text=True)
    assert f"{option} TEXT" in known.stdout
    _launch(home({}), proxy.url, json.loads(context)["ray"], {"num_gpus": 1000})
    # The termination comes after it.
    submit, *_ = proxy.recorded("POST", "/api/jobs/")
    assert json.loads(submit.body)["entrypoint_num_cpus"] == 2


@pytest.mark.parametrize(
    ("ray", "named"), [(["num_cpus"], "container_context.ray: is list"), ({"cpus": 1}, "cpus")]
)
def test_mistakes_of_the_code_location_are_named(home: Any, ray: object, named: str) -> None:
    with pytest.raises(InvalidConfigError, match=named):
        _launch(home({}), "http://127.0.0.1:9", ray)


def test_a_code_location_names_no_variables_and_files_of_the_daemon(
    home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_RAY_POLICY")
    instance = home({})
    for ray in ({"env_vars": ["HOME"]}, {"runtime_env": {"working_dir": "/etc"}}):
        with pytest.raises(PermissionDeniedError, match=r"^container_context\.ray\..*\[launch\]"):
            _launch(instance, "http://127.0.0.1:9", ray)
