"""A run launcher with a component file that is replaced while Dagster runs."""

from pathlib import Path

import dagster as dg
from component_files import FIXTURES, built_in, put
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.launcher import LaunchRunContext
from dagster._core.test_utils import create_run_for_test
from dagster_ray.launcher import RUN_REF_TAG, RayRunLauncher
from processes import wait_for
from ray_head import RayHead

JOBS = Path(__file__).parent / "code/steps.py"


def test_a_replaced_component_file_is_used_by_the_next_launch(
    home, ray_head: RayHead, tmp_path: Path
) -> None:
    wasm = built_in("existing", tmp_path / "elsewhere.wasm")
    config = {"backend": str(wasm), "address": ray_head.url}
    launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": config}
    instance: dg.DagsterInstance = home({"run_launcher": launcher})
    job = ReconstructableJob.for_file(str(JOBS), "pair")

    def launch() -> dg.DagsterRun:
        run = create_run_for_test(
            instance,
            job_name="pair",
            job_code_origin=job.get_python_origin(),
            status=dg.DagsterRunStatus.STARTING,
        )
        instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
        return run

    def ended(run: dg.DagsterRun) -> bool:
        now = instance.get_run_by_id(run.run_id)
        return now is not None and now.is_finished

    # The run and its steps use the copy: the executor inherits the backend from the launcher.
    first = launch()
    wait_for("the run", lambda: ended(first), 90)
    after = instance.get_run_by_id(first.run_id)
    assert after and after.status == dg.DagsterRunStatus.SUCCESS
    assert len(ray_head.jobs(first.run_id)) == 3

    # The next call of the launcher uses the new component at the same path.
    put(FIXTURES / "echo.wasm", wasm)
    second = launch()
    assert isinstance(instance.run_launcher, RayRunLauncher)
    now = instance.get_run_by_id(second.run_id)
    assert now
    assert f"echo-{second.run_id}" in now.tags[RUN_REF_TAG]
    assert not ray_head.jobs(second.run_id)
