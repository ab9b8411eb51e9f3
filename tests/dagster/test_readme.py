"""The README's examples for launcher, executor and LocalRay, as printed.

Two things are not as printed. A job's body cannot return (Dagster refuses it), and the executor's
example installs torch: a package of this machine takes its place in the runtime environment, so
that no package index is needed.
"""

import json
import shutil
from pathlib import Path

import dagster as dg
import yaml
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.instance import DagsterInstance
from dagster._core.launcher import LaunchRunContext
from dagster._core.test_utils import create_run_for_test
from processes import wait_for
from ray_head import RayHead

README = Path(__file__).parent / "readme"
RETURN = "    return my_op()"


def _printed(name: str, into: Path) -> str:
    text = (README / f"{name}.py.txt").read_text()
    assert name == "local" or RETURN in text
    into.joinpath(f"{name}_example.py").write_text(text)
    return text


def test_the_run_launcher(home, ray_head: RayHead, tmp_path: Path, monkeypatch) -> None:
    """Flat configuration without an address, and a tag that overrides it."""
    monkeypatch.setenv("RAY_ADDRESS", ray_head.url)
    instance = home(yaml.safe_load((README / "dagster.yaml").read_text()))
    text = _printed("launcher", tmp_path)
    op = "from dagster import op\n\n\n@op\ndef my_op():\n    return 42\n\n\n"
    file = tmp_path / "launcher_example.py"
    file.write_text(op + text.replace(RETURN, "    my_op()"))
    job = ReconstructableJob.for_file(str(file), "my_job")
    run = _created(instance, job)
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    wait_for("the run", lambda: _ended(instance, run.run_id), 90)
    after = instance.get_run_by_id(run.run_id)
    assert after and after.status == dg.DagsterRunStatus.SUCCESS
    assert list(ray_head.jobs(run.run_id)) == [f"dagster-run-{run.run_id}"]


def test_the_executor(home, ray_head: RayHead, tmp_path: Path, monkeypatch) -> None:
    """Nested configuration, GPUs, and a runtime environment in the op's tag."""
    monkeypatch.setenv("RAY_ADDRESS", ray_head.url)
    module = tmp_path / "modules" / "torch"
    module.mkdir(parents=True)
    (module / "__init__.py").write_text("SHIPPED = True\n")
    text = _printed("executor", tmp_path).replace(RETURN, "    my_op()")
    pip = '{"pip": {"packages": ["torch"]}}'
    assert pip in text
    text = text.replace(pip, json.dumps({"py_modules": [str(module)]}))
    text = text.replace("result = ...", 'result = (torch.SHIPPED, environ["CUDA_VISIBLE_DEVICES"])')
    file = tmp_path / "executor_example.py"
    file.write_text("from os import environ\n\n" + text)
    job = ReconstructableJob.for_file(str(file), "my_job")
    with dg.execute_job(job, instance=home({})) as result:
        assert result.success
        assert result.output_for_node("my_op") == (True, "0,1")
        [name] = ray_head.jobs(result.run_id)
        assert name.startswith(f"dagster-step-{result.run_id}-my_op")
    shutil.rmtree(module)


def test_local_ray(ray_head: RayHead, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray_head.gcs)
    namespace: dict = {}
    exec(compile(_printed("local", tmp_path), "local_example.py", "exec"), namespace)
    definitions = namespace["definitions"]
    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process()
    assert result.success
    assert result.output_for_node("my_asset") == 42
    import ray

    assert not ray.is_initialized(), "the connection that it made is closed"


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
