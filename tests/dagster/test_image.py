"""The image of a run: its tag, or else the image of its code location."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.launcher import LaunchRunContext
from dagster._core.test_utils import create_run_for_test
from dagster_ray.configs import image
from dagster_ray.testing import SimulatedRay

JOBS = Path(__file__).parent / "code/policy_jobs.py"
Home = Callable[[dict[str, Any]], dg.DagsterInstance]


def _run(instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    origin = ReconstructableJob.for_file(str(JOBS), "open_executor").get_python_origin()
    repository = origin.repository_origin._replace(container_image="registry/code:1")
    return create_run_for_test(
        instance,
        job_name="open_executor",
        job_code_origin=origin._replace(repository_origin=repository),
        status=dg.DagsterRunStatus.STARTING,
        tags=tags,
    )


@pytest.mark.parametrize(
    ("tags", "written"),
    [({}, "registry/code:1"), ({"dagster/image": "registry/own:2"}, "registry/own:2")],
)
def test_the_launcher_writes_the_image_of_the_code_location_on_a_run_without_one(
    home: Home, simulated_ray: SimulatedRay, tags: dict[str, str], written: str
) -> None:
    instance = home({"run_launcher": {"module": "dagster_ray", "class": "RayRunLauncher"}})
    run = _run(instance, **tags)
    assert image(run) == written
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    launched = instance.get_run_by_id(run.run_id)
    assert launched is not None and launched.tags["dagster/image"] == written
    instance.run_launcher.terminate(run.run_id)


def test_an_option_that_names_an_image_is_not_contradicted(
    home: Home, simulated_ray: SimulatedRay
) -> None:
    instance = home({"run_launcher": {"module": "dagster_ray", "class": "RayRunLauncher"}})
    run = _run(instance, **{"dagster-ray/config": '{"image": "registry/option:3"}'})
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    launched = instance.get_run_by_id(run.run_id)
    assert launched is not None and "dagster/image" not in launched.tags
    instance.run_launcher.terminate(run.run_id)
