"""Who may choose what: a launch user chooses no connection, component, credential or file."""

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
from dagster_ray import PipesRayJobClient, RayIOManager, RayRunLauncher
from dagster_ray.errors import DagsterRayError, InvalidConfigError, PermissionDeniedError
from dagster_ray.instance_policy import check_executor, check_run_tag, worker_environment
from dagster_ray.kuberay import KubeRayClusterClientResource, RayClusterClient
from dagster_ray.pipes import SubmitJobParams
from processes import free_port

JOBS = Path(__file__).parent / "code/policy_jobs.py"
Home = Callable[[dict[str, Any]], dg.DagsterInstance]

pytestmark = pytest.mark.usefixtures("_without_policy")


@pytest.fixture
def _without_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_RAY_POLICY")


def _execute(instance: dg.DagsterInstance, job: str, run_config: dict[str, Any]) -> str:
    """Executes a job with run config, and returns the errors of its events."""
    reconstructable = ReconstructableJob.for_file(str(JOBS), job)
    # Dagster raises the error of a resource also with `raise_on_error=False`.
    with (
        suppress(dg.DagsterError),
        dg.execute_job(reconstructable, instance, run_config, raise_on_error=False),
    ):
        pass
    [run_id] = instance.get_run_ids()
    events = [entry.dagster_event for entry in instance.all_logs(run_id) if entry.dagster_event]
    errors = [getattr(event.event_specific_data, "error", None) for event in events]
    return "\n".join(error.to_string() for error in errors if error is not None)


def _launch(instance: dg.DagsterInstance, override: dict[str, Any]) -> None:
    run = create_run_for_test(instance, tags={"dagster-ray/config": json.dumps(override)})
    instance.run_launcher.launch_run(LaunchRunContext(run, workspace=None))


@pytest.fixture
def instance(home: Home) -> dg.DagsterInstance:
    address = f"http://127.0.0.1:{free_port()}"
    launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": {"address": address}}
    return home({"run_launcher": launcher})


def _write_policy(instance: dg.DagsterInstance, text: str) -> None:
    Path(instance.root_directory, "dagster-ray.toml").write_text(text)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ({"env_vars": ["STAGE=prod", "DATABASE_URL"]}, 'env_vars = ["DATABASE_URL"]'),
        ({"runtime_env": {"working_dir": "/etc"}}, 'directories = ["/etc"]'),
        ({"runtime_env": {"py_modules": ["/root/.kube"]}}, 'directories = ["/root/.kube"]'),
        ({"runtime_env": {"pip": "/etc/passwd"}}, 'directories = ["/etc/passwd"]'),
        ({"runtime_env": {"conda": "/root/env.yml"}}, 'directories = ["/root/env.yml"]'),
        ({"env_vars": ["RAY_ADDRESS=http://evil"]}, 'env_vars = ["RAY_ADDRESS"]'),
        ({"env_vars": ["RAY_JOB_HEADERS={}"]}, 'env_vars = ["RAY_JOB_HEADERS"]'),
    ],
)
def test_a_run_tag_cannot_read_the_environment_or_files_of_the_daemon(
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    override: dict[str, Any],
    line: str,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "secret-value")
    with pytest.raises(PermissionDeniedError) as denied:
        _launch(instance, override)
    assert line in str(denied.value) and "[launch]" in str(denied.value)
    assert "dagster-ray.toml" in str(denied.value) and "secret-value" not in str(denied.value)
    assert denied.value.grant == line


def test_the_policy_lists_the_fields_of_a_tag(instance: dg.DagsterInstance) -> None:
    _write_policy(instance, "[launch]\ntag_fields = ['num_cpus']")
    with pytest.raises(PermissionDeniedError, match="num_gpus"):
        _launch(instance, {"num_gpus": 1})
    check_run_tag(instance, {"num_cpus": 1})


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"address": "http://127.0.0.1:9"}, 'addresses = ["http://127.0.0.1:9"]'),
        ({"ray": {"address": "http://127.0.0.1:9"}}, 'addresses = ["http://127.0.0.1:9"]'),
        ({"address": {"env": "CHOSEN"}}, "addresses"),
        ({"backend": "/tmp/evil.wasm"}, 'backends = ["/tmp/evil.wasm"]'),
        ({"backend_programs": {"ray": ["/bin/sh", "-c", "id"]}}, 'programs = ["/bin/sh"]'),
        ({"backend_grants": {"limits": {"memory_mib": 4096}}}, 'fields = ["backend_grants"]'),
        ({"kube_config": "/tmp/exec-plugin"}, 'kube_configs = ["/tmp/exec-plugin"]'),
        ({"kube_context": "production"}, 'contexts = ["production"]'),
        ({"env_vars": ["DATABASE_URL"]}, 'env_vars = ["DATABASE_URL"]'),
    ],
)
def test_run_config_cannot_choose_the_connection_of_an_executor(
    home: Home, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], line: str
) -> None:
    monkeypatch.setenv("CHOSEN", "http://secret-value:1")
    log = _execute(home({}), "open_executor", {"execution": {"config": config}})
    assert "PermissionDeniedError" in log and "run config may not choose" in log
    assert line in log
    assert "secret-value" not in log


def test_the_default_config_of_a_job_is_its_authors(home: Home) -> None:
    default = {"execution": {"config": {"address": "http://head:8265"}}}
    config = {"address": "http://head:8265"}
    check_executor(home({}), config, default, default)
    with pytest.raises(PermissionDeniedError, match="address"):
        check_executor(home({}), config, default, None)


def test_the_policy_allows_a_launch_user_and_restricts_a_code_author(home: Home) -> None:
    instance = home({})
    _write_policy(
        instance,
        "[launch]\naddresses = ['http://a:8265']\n[code]\naddresses = ['http://b:8265']",
    )

    def check(address: str, *, in_run_config: bool) -> None:
        fields = {"address": address}
        run_config = {"execution": {"config": fields}} if in_run_config else {}
        check_executor(instance, fields, run_config, None)

    check("http://a:8265/", in_run_config=True)
    check("http://b:8265", in_run_config=False)
    for address, in_run_config in (("http://b:8265", True), ("http://a:8265", False)):
        with pytest.raises(PermissionDeniedError, match="may not choose"):
            check(address, in_run_config=in_run_config)


def test_run_config_cannot_choose_the_directory_that_values_are_unpickled_from(
    home: Home, tmp_path: Path
) -> None:
    config = {"directory": str(tmp_path / "pickles")}
    run_config = {"resources": {"io_manager": {"config": config}}}
    log = _execute(home({}), "stores", run_config)
    assert "resources.io_manager.config.directory" in log
    assert not (tmp_path / "pickles").exists()


def test_a_worker_gets_the_policy_and_a_malformed_policy_is_an_error(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert worker_environment(instance) == {}
    _write_policy(instance, "[launch]\nenv_vars = ['STAGE']\n")
    assert worker_environment(instance) == {
        "DAGSTER_RAY_POLICY_TEXT": "[launch]\nenv_vars = ['STAGE']\n"
    }
    _write_policy(instance, "[launch]\nbackend = ['x']")
    with pytest.raises(InvalidConfigError, match=r"dagster-ray\.toml"):
        _launch(instance, {})
    monkeypatch.setenv("DAGSTER_RAY_POLICY", str(tmp_path / "missing.toml"))
    with pytest.raises(InvalidConfigError, match="DAGSTER_RAY_POLICY"):
        _launch(instance, {})


_CODE_RULES = """[code]
backends = ["existing", "kuberay", "files"]
addresses = ["http://allowed:8265"]
kube_configs = ["/etc/allowed"]
namespaces = ["ray"]
directories = ["/data/values"]
"""


def _runs_script(client: PipesRayJobClient, **runtime_env: object) -> dg.ExecuteInProcessResult:
    @dg.op
    def script(context: dg.OpExecutionContext) -> None:
        params: SubmitJobParams = {
            "entrypoint": "true",
            "runtime_env": dict(runtime_env),
        }
        client.run(context=context, submit_job_params=params)

    @dg.job
    def scripts() -> None:
        script()

    return scripts.execute_in_process(raise_on_error=True)


def test_the_rules_for_code_apply_to_clients_that_code_builds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster-ray.toml").write_text(_CODE_RULES)
    elsewhere = PipesRayJobClient(f"http://127.0.0.1:{free_port()}", unreachable_timeout=1.0)
    with pytest.raises(PermissionDeniedError, match="addresses"):
        _runs_script(elsewhere)
    with pytest.raises(PermissionDeniedError, match="backends"):
        _runs_script(PipesRayJobClient(address="http://allowed:8265", backend="/tmp/evil.wasm"))
    with pytest.raises(PermissionDeniedError, match="directories"):
        _runs_script(PipesRayJobClient(address="http://allowed:8265"), working_dir="/etc")
    for refused, built in {
        "addresses": lambda: elsewhere.client,
        "kube_configs": lambda: RayClusterClient("/tmp/exec-plugin").list("ray"),
        "namespaces": lambda: RayClusterClient("/etc/allowed").get("c", "kube-system"),
        "directories": lambda: _stores_elsewhere(tmp_path),
    }.items():
        with pytest.raises(PermissionDeniedError, match=refused):
            built()
    assert not (tmp_path / "pickles").exists()


def _stores_elsewhere(folder: Path) -> None:
    manager = RayIOManager(backend="files", directory=str(folder / "pickles"))
    manager.handle_output(dg.build_output_context(run_id="r", step_key="s", name="n"), 1)


def test_the_rules_for_code_do_not_apply_to_the_launcher(
    instance: dg.DagsterInstance,
) -> None:
    _write_policy(instance, _CODE_RULES)
    assert isinstance(instance.run_launcher, RayRunLauncher)
    assert instance.run_launcher.backend.url.startswith("http://127.0.0.1:")


def test_a_client_of_a_resource_uses_what_the_policy_allows_its_launch_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    launch = "[launch]\nkube_configs = ['/etc/launched']\n"
    (tmp_path / "dagster-ray.toml").write_text(launch + _CODE_RULES)
    clients: list[RayClusterClient] = []

    @dg.op(required_resource_keys={"kuberay"})
    def uses(context: dg.OpExecutionContext) -> None:
        clients.append(context.resources.kuberay)

    @dg.job(resource_defs={"kuberay": KubeRayClusterClientResource()})
    def clusters() -> None:
        uses()

    config = {"resources": {"kuberay": {"config": {"kube_config": "/etc/launched"}}}}
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        clusters.execute_in_process(config, instance=instance)
    # The kubeconfig does not exist: the call gets as far as reading it.
    with pytest.raises(DagsterRayError, match="/etc/launched"):
        clients[0].get("c", "ray")
