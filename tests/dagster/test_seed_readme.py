"""Runs the examples of the README of PyPI's `dagster-ray`, which this package replaces, as printed.

test_kuberay_readme.py runs those that need Kubernetes. There is one change: Dagster refuses a job
whose body returns a value, so `return my_op()` is run as `my_op()`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.instance import DagsterInstance
from dagster._core.launcher import LaunchRunContext
from dagster._core.test_utils import create_run_for_test
from dagster_ray import RayIOManager
from dagster_ray.kuberay import PipesKubeRayJobClient
from dagster_ray.testing import SimulatedRay
from document_blocks import seed, seed_block
from packaging.requirements import Requirement
from processes import wait_for
from ray_head import RayHead
from wheel_files import write_wheel

PROJECT = Path(__file__).parents[2] / "host/python/pyproject.toml"
DAGSTER_YAML = seed_block("dagster.yaml")
LAUNCHER = seed_block("launcher.py.txt")
EXECUTOR = seed_block("executor.py.txt")
PORT_FORWARD = seed_block("kuberay_pipes_port_forward.py.txt")
RUNTIME_ENV = seed_block("kuberay_pipes_runtime_env.py.txt")


def _without_return(text: str) -> str:
    printed = "    return my_op()"
    assert printed in text
    return text.replace(printed, "    my_op()")


def _executed(text: str, **names: Any) -> dict[str, Any]:
    exec(compile(text, "seed_example.py", "exec"), names)
    return names


@seed(
    "install.sh.txt",
    "install_kuberay.sh.txt",
    "install_kuberay_quoted.sh.txt",
    "install_run_launcher.sh.txt",
    "install_executor.sh.txt",
)
def test_this_package_has_the_extras_of_the_install_commands(printed: str) -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    [line] = printed.splitlines()
    command, _, name = line.rpartition(" ")
    assert command == "pip install"
    requirement = Requirement(name.strip("'"))
    assert requirement.name == "dagster-ray"
    assert requirement.extras <= extras.keys(), f"{line}: this package has {', '.join(extras)}"


def test_the_launcher_example_runs_with_flat_configuration_and_a_tag(
    home: Any, ray_head: RayHead, tmp_path: Path, monkeypatch: Any
) -> None:
    """The configuration is flat and has no address."""
    monkeypatch.setenv("RAY_ADDRESS", ray_head.url)
    instance = home(yaml.safe_load(DAGSTER_YAML))
    # The example calls `my_op` and does not define it.
    op = "from dagster import op\n\n\n@op\ndef my_op():\n    return 42\n\n\n"
    file = tmp_path / "launcher_example.py"
    file.write_text(op + _without_return(LAUNCHER))
    job = ReconstructableJob.for_file(str(file), "my_job")
    run = _created(instance, job)
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    wait_for("the run", lambda: _ended(instance, run.run_id), 90)
    after = instance.get_run_by_id(run.run_id)
    log = [entry.user_message or entry.message for entry in instance.all_logs(run.run_id)]
    assert after and after.status == dg.DagsterRunStatus.SUCCESS, "\n".join(log)
    assert list(ray_head.jobs(run.run_id)) == [f"dagster-run-{run.run_id}"]


@pytest.mark.timeout(400)
def test_the_executor_example_runs_with_gpus_and_pip(
    home: Any, ray_head: RayHead, tmp_path: Path, monkeypatch: Any
) -> None:
    """The configuration is nested, and pip installs a package for the op."""
    monkeypatch.setenv("RAY_ADDRESS", ray_head.url)
    seen = tmp_path / "seen"
    module = f"import os\nopen({str(seen)!r}, 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])\n"
    write_wheel(ray_head.wheels, "torch", {"torch.py": module})
    file = tmp_path / "executor_example.py"
    file.write_text(_without_return(EXECUTOR))
    job = ReconstructableJob.for_file(str(file), "my_job")
    with dg.execute_job(job, instance=home({})) as result:
        assert result.success
        assert result.output_for_node("my_op") is ...
        [name] = ray_head.jobs(result.run_id)
        assert name.startswith(f"dagster-step-{result.run_id}-my_op")
    # The module that pip installed has written the GPUs that Ray assigned to the op.
    assert seen.read_text() == "0,1"


@pytest.fixture
def connected(ray_head: RayHead, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayHead]:
    import ray

    monkeypatch.setenv("RAY_ADDRESS", ray_head.gcs)
    yield ray_head
    ray.shutdown()


@seed("values.py.txt")
def test_the_io_manager_example(connected: RayHead, printed: str) -> None:
    job = _executed(printed)["definitions"].resolve_implicit_global_asset_job_def()
    result = job.execute_in_process()
    assert result.success and result.output_for_node("downstream") == 0


@seed("values_partitioned.py.txt", "values_mapped.py.txt")
def test_the_io_manager_examples_with_partitions(connected: RayHead, printed: str) -> None:
    # The second example uses `Dict` in an annotation and does not import it.
    names = _executed(printed, Dict=dict)
    upstream = names["upstream"]
    downstream = names.get("downstream") or names["downstream_unpartitioned"]
    resources = {"ray_io_manager": RayIOManager()}
    keys = names["partitions_def"].get_partition_keys()
    with DagsterInstance.ephemeral() as instance:
        more: dict[str, Any] = {"resources": resources, "instance": instance}
        for key in keys:
            assert dg.materialize([upstream], partition_key=key, **more).success
        assets = [upstream.to_source_asset(), downstream]
        for key in keys if downstream.partitions_def else [None]:
            assert dg.materialize(assets, partition_key=key, **more).success


@seed("local.py.txt")
def test_the_local_ray_example(connected: RayHead, printed: str) -> None:
    import ray

    result = _executed(printed)["definitions"].resolve_implicit_global_asset_job_def()
    result = result.execute_in_process()
    assert result.success
    assert result.output_for_node("my_asset") == 42
    assert not ray.is_initialized(), "the resource has closed its connection"


def test_port_forward_and_runtime_env_yaml_are_accepted(simulated_ray: SimulatedRay) -> None:
    # `...` stands for further arguments; this test has none.
    assert "PipesKubeRayJobClient(..., port_forward" in PORT_FORWARD
    text = PORT_FORWARD.replace("..., ", "")
    client = _executed(text, PipesKubeRayJobClient=PipesKubeRayJobClient)["pipes_rayjob_client"]
    ray_job = _executed(RUNTIME_ENV)["ray_job"]
    ray_job["spec"]["entrypoint"] = "true"

    @dg.op
    def scripted(context: dg.OpExecutionContext) -> None:
        client.run(context=context, ray_job=ray_job)

    @dg.job
    def scripts() -> None:
        scripted()

    assert scripts.execute_in_process().success
    [job] = simulated_ray.jobs
    assert (job.entrypoint, job.runtime_env["pip"]) == ("true", ["dagster-pipes"])


def _created(instance: DagsterInstance, job: ReconstructableJob) -> dg.DagsterRun:
    definition = job.get_definition()
    return create_run_for_test(
        instance,
        job_name=definition.name,
        tags=dict(definition.tags),
        job_code_origin=job.get_python_origin(),
        status=dg.DagsterRunStatus.STARTING,
    )


def _ended(instance: DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is not None and run.is_finished
