"""`dg.EnvVar` and `{env: NAME}` in the configuration of clients, the launcher and the executor."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.launcher import LaunchRunContext
from dagster._core.test_utils import create_run_for_test
from dagster_ray import PipesRayJobClient, RayRunLauncher
from dagster_ray.configs import BackendConfig
from dagster_ray.env_selectors import resolved_fields
from dagster_ray.errors import DagsterRayError, InvalidConfigError
from dagster_ray.kuberay import PipesKubeRayJobClient, RayJobClient
from dagster_ray.kuberay.backend import DashboardAccess
from dagster_ray.pipes import SubmitJobParams
from dagster_ray.testing import SimulatedRay
from fault_proxy import FaultProxy
from pipes_script import Write, run_script
from processes import free_port

JOBS = Path(__file__).parent / "code/policy_jobs.py"
Home = Callable[[dict[str, Any]], dg.DagsterInstance]
SECRET = "secret-value"


def test_a_pipes_client_uses_the_values_of_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables are read when a script runs: the process that loads the code has none."""
    for name in ("HEAD", "TOKEN", "CA"):
        monkeypatch.delenv(name, raising=False)
    client = PipesRayJobClient(
        address=dg.EnvVar("HEAD"),
        headers={"X-Auth": dg.EnvVar("TOKEN")},
        cookies={"session": {"env": "TOKEN"}},  # type: ignore[dict-item]
        verify=dg.EnvVar("CA"),
        backend_config={"default_excludes": {"env": "CA"}},
    )
    monkeypatch.setenv("HEAD", "http://head:8265")
    monkeypatch.setenv("CA", "/etc/ca.pem")
    with pytest.raises(
        InvalidConfigError, match=r"headers\.X-Auth: .* TOKEN is not set"
    ) as missing:
        _ = client.backend
    assert [field["path"] for field in missing.value.fields or []] == ["headers.X-Auth"]
    monkeypatch.setenv("TOKEN", SECRET)
    config = client.backend.config
    assert config.address == "http://head:8265" and config.verify == "/etc/ca.pem"
    assert config.headers == {"X-Auth": SECRET} and config.cookies == {"session": SECRET}
    assert config.backend_config == {"default_excludes": "/etc/ca.pem"}


def test_a_credential_of_a_variable_is_sent_to_ray(
    proxy: FaultProxy, script: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEAD", proxy.url)
    monkeypatch.setenv("TOKEN", SECRET)
    client = PipesRayJobClient(dg.EnvVar("HEAD"), headers={"X-Auth": dg.EnvVar("TOKEN")})
    run_script(client, {"entrypoint": script("print('done')")})
    assert {request.headers.get("x-auth") for request in proxy.requests} == {SECRET}


def test_mistakes_are_reported_where_the_client_is_made() -> None:
    with pytest.raises(InvalidConfigError, match="verify"):
        PipesRayJobClient(address=dg.EnvVar("HEAD"), verify=3)  # type: ignore[arg-type]


def test_a_client_on_kuberay_uses_the_values_of_its_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INGRESS", "https://ingress.example")
    monkeypatch.setenv("TOKEN", SECRET)
    monkeypatch.setenv("KUBE", "/etc/kube")
    client = PipesKubeRayJobClient(
        RayJobClient(kube_config=dg.EnvVar("KUBE")),
        address=dg.EnvVar("INGRESS"),
        headers={"X-Auth": dg.EnvVar("TOKEN")},
    )
    config = client.backend.config
    assert (config.address, config.kube_config) == ("https://ingress.example", "/etc/kube")
    assert config.headers == {"X-Auth": SECRET}
    # What `run` overrides.
    access = DashboardAccess(dg.EnvVar("INGRESS"), cookies={"session": dg.EnvVar("TOKEN")})
    assert client.client.new_backend(access=access).config.cookies == {"session": SECRET}


def test_the_parameters_of_a_script_can_name_variables(
    simulated_ray: SimulatedRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM", "blue")
    params: SubmitJobParams = {
        "entrypoint": "true",
        "metadata": {"team": dg.EnvVar("TEAM"), "env": "prod"},
    }

    @dg.op
    def script(context: dg.OpExecutionContext) -> None:
        PipesRayJobClient().run(context=context, submit_job_params=params)

    @dg.job
    def scripts() -> None:
        script()

    assert scripts.execute_in_process().success
    [job] = simulated_ray.jobs
    assert (job.metadata["team"], job.metadata["env"]) == ("blue", "prod")


def test_labels_and_manifests_may_have_the_key_env(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("prod", raising=False)
    monkeypatch.setenv("IMAGE", "ours:1")
    manifest = {"metadata": {"labels": {"env": "prod"}}, "image": dg.EnvVar("IMAGE")}
    found = resolved_fields(
        {
            "headers": {"env": "prod"},
            "metadata": {"env": "prod"},
            "backend_config": {"image": {"env": "IMAGE"}, "ray_job": manifest},
        }
    )
    assert found == {
        "headers": {"env": "prod"},
        "metadata": {"env": "prod"},
        "backend_config": {
            "image": "ours:1",
            "ray_job": {"metadata": {"labels": {"env": "prod"}}, "image": "ours:1"},
        },
    }
    # The class of integers is another one.
    monkeypatch.setenv("SECONDS", "7")
    config = BackendConfig.validated(unreachable_timeout=dg.EnvVar.int("SECONDS"))
    assert config.unreachable_timeout == 7


def _launcher(home: Home, **config: Any) -> RayRunLauncher:
    settings = {"address": f"http://127.0.0.1:{free_port()}", **config}
    launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": settings}
    made = home({"run_launcher": launcher}).run_launcher
    assert isinstance(made, RayRunLauncher)
    return made


def test_the_launchers_configuration_can_name_variables(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"verify": {"env": "CA"}, "backend_config": {"patience": {"env": "PATIENCE"}}}
    monkeypatch.setenv("CA", "/etc/ca.pem")
    monkeypatch.delenv("PATIENCE", raising=False)
    with pytest.raises(InvalidConfigError, match=r"backend_config\.patience: .* PATIENCE is not"):
        _launcher(home, **fields)
    monkeypatch.setenv("PATIENCE", "7")
    config = _launcher(home, **fields).backend.config
    assert config.verify == "/etc/ca.pem" and config.backend_config == {"patience": "7"}


@pytest.mark.parametrize(
    "override",
    [
        {"metadata": {"team": {"env": "DATABASE_URL"}}},
        {"runtime_env": {"env_vars": {"URL": {"env": "DATABASE_URL"}}}},
        {"env_vars": [{"env": "DATABASE_URL"}]},
        {"verify": {"env": "DATABASE_URL"}},
        {"backend_config": {"image": {"env": "DATABASE_URL"}}},
    ],
    ids=lambda override: next(iter(override)),
)
def test_a_run_tag_cannot_read_a_variable_of_the_daemon(
    home: Home, monkeypatch: pytest.MonkeyPatch, override: dict[str, Any]
) -> None:
    monkeypatch.delenv("DAGSTER_RAY_POLICY")
    monkeypatch.setenv("DATABASE_URL", SECRET)
    launcher = _launcher(home, backend_config={"patience": {"request_seconds": 1}})
    instance = launcher.instance
    run = create_run_for_test(instance, tags={"dagster-ray/config": json.dumps(override)})
    planned = ""
    with pytest.raises(DagsterRayError) as refused:
        planned = str(launcher.launch_run(LaunchRunContext(run, workspace=None)))
    assert SECRET not in planned + str(refused.value)
    assert SECRET not in str(instance.get_run_by_id(run.run_id))


@pytest.mark.parametrize(
    "config",
    [
        {"verify": {"env": "DATABASE_URL"}},
        {"backend_config": {"image": {"env": "DATABASE_URL"}}},
        {"metadata": {"team": {"env": "DATABASE_URL"}}},
    ],
    ids=lambda config: next(iter(config)),
)
def test_run_config_names_only_variables_that_the_policy_lists(
    home: Home, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]
) -> None:
    monkeypatch.delenv("DAGSTER_RAY_POLICY")
    monkeypatch.setenv("DATABASE_URL", SECRET)
    instance = home({})
    # The fields are allowed: the variable is another matter.
    text = '[launch]\nfields = ["*"]\ndirectories = ["*"]\n'
    Path(instance.root_directory, "dagster-ray.toml").write_text(text)
    config = {"address": f"http://127.0.0.1:{free_port()}", **config}
    text += f'addresses = ["{config["address"]}"]\n'
    Path(instance.root_directory, "dagster-ray.toml").write_text(text)
    with (
        suppress(dg.DagsterError),
        dg.execute_job(
            ReconstructableJob.for_file(str(JOBS), "open_executor"),
            instance,
            {"execution": {"config": config}},
            raise_on_error=False,
        ),
    ):
        pass
    [run_id] = instance.get_run_ids()
    events = [entry.dagster_event for entry in instance.all_logs(run_id) if entry.dagster_event]
    errors = [getattr(event.event_specific_data, "error", None) for event in events]
    log = "\n".join(error.to_string() for error in errors if error is not None)
    assert 'env_vars = ["DATABASE_URL"]' in log and SECRET not in log
