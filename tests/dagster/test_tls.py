"""The option `verify`, with a real Ray behind a TLS server with a private authority."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import certificates
import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.launcher import LaunchRunContext
from dagster._core.test_utils import create_run_for_test
from dagster_ray import PipesRayJobClient
from dagster_ray.errors import DagsterRayError, UnavailableError
from fault_proxy import FaultProxy
from ray_head import RayHead

JOBS = Path(__file__).parent / "code/steps.py"
# The CAs of Debian and its derivatives.
SYSTEM_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")

Home = Callable[[dict], dg.DagsterInstance]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> certificates.Authority:
    return certificates.authority(tmp_path_factory.mktemp("authority"), "private")


@pytest.fixture(scope="module")
def front(
    ray_head: RayHead, authority: certificates.Authority, tmp_path_factory: Any
) -> Iterator[FaultProxy]:
    context = certificates.server(tmp_path_factory.mktemp("server"), authority)
    with FaultProxy.start(ray_head.url, context) as front:
        assert front.url.startswith("https://")
        yield front


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the variables of this machine that choose certificates."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["false", "path"])
def verify(request: pytest.FixtureRequest, authority: certificates.Authority) -> bool | str:
    """Values of `verify` with which Ray's certificate is accepted."""
    return False if request.param == "false" else str(authority.file)


@pytest.fixture(
    params=[
        "default",
        *(pytest.param(name, marks=pytest.mark.nightly) for name in ("true", "path of another")),
    ]
)
def refuses(request: pytest.FixtureRequest, tmp_path: Path) -> bool | str | None:
    """Values of `verify` with which it is refused. By default, certificates are verified."""
    other = str(certificates.authority(tmp_path, "another").file)
    return {"true": True, "default": None, "path of another": other}[request.param]


def _launch(home: Home, url: str, verify: bool | str | None) -> dg.DagsterRun:
    config = {"address": url, "num_cpus": 0, "verify": verify}
    config = {key: value for key, value in config.items() if value is not None}
    launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": config}
    instance = home({"run_launcher": launcher})
    run = create_run_for_test(
        instance,
        job_name="failing",
        job_code_origin=ReconstructableJob.for_file(str(JOBS), "failing").get_python_origin(),
        status=dg.DagsterRunStatus.STARTING,
    )
    instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    assert instance.run_launcher.terminate(run.run_id)
    return run


def test_the_launcher_accepts_the_certificate(
    home: Home, front: FaultProxy, ray_head: RayHead, verify: Any
) -> None:
    run = _launch(home, front.url, verify)
    assert f"dagster-run-{run.run_id}" in ray_head.jobs(run.run_id)


def test_the_launcher_refuses_an_untrusted_certificate(
    home: Home, front: FaultProxy, refuses: Any
) -> None:
    front.reset()
    with pytest.raises(DagsterRayError) as raised:
        _launch(home, front.url, refuses)
    _is_refusal(raised.value, front)


def _is_refusal(error: BaseException | None, front: FaultProxy) -> None:
    """Asserts that the error names the certificate and that Ray got no request, so no token."""
    assert "certificate" in str(error), repr(error)
    assert front.url in str(error), repr(error)
    assert front.connections > 0 and not front.requests


def _execute(home: Home, url: str, verify: bool | str | None) -> dg.JobExecutionResult:
    config = {"address": url} | ({} if verify is None else {"verify": verify})
    return dg.execute_job(
        ReconstructableJob.for_file(str(JOBS), "single"),
        instance=home({}),
        run_config={"execution": {"config": config}},
        raise_on_error=False,
    )


def test_the_executor_accepts_the_certificate(
    home: Home, front: FaultProxy, ray_head: RayHead, verify: Any
) -> None:
    front.reset()
    with _execute(home, front.url, verify) as result:
        assert result.success
    assert len(ray_head.jobs(result.run_id)) == 1
    assert front.recorded("POST", "/api/jobs/")


def test_the_executor_refuses_an_untrusted_certificate(
    home: Home, front: FaultProxy, refuses: Any
) -> None:
    front.reset()
    with _execute(home, front.url, refuses) as result:
        assert not result.success
        [event] = result.get_step_failure_events()
    assert event.step_failure_data.error
    text = event.step_failure_data.error.to_string()
    _is_refusal(UnavailableError(text), front)


def _script(url: str, folder: Path, **more: Any) -> list[Any]:
    script = folder / "script.py"
    script.write_text(
        "from dagster_pipes import open_dagster_pipes\n"
        "with open_dagster_pipes() as pipes:\n"
        "    pipes.report_custom_message('over TLS')\n"
    )
    received: list[Any] = []
    client = PipesRayJobClient(address=url, **more)

    @dg.op
    def scripted(context: dg.OpExecutionContext) -> None:
        entrypoint = f"{sys.executable} {script}"
        done = client.run(context=context, submit_job_params={"entrypoint": entrypoint})
        received.extend(done.get_custom_messages())

    @dg.job
    def scripts() -> None:
        scripted()

    scripts.execute_in_process()
    return received


def test_pipes_accepts_the_certificate(front: FaultProxy, tmp_path: Path, verify: Any) -> None:
    front.reset()
    assert _script(front.url, tmp_path, verify=verify) == ["over TLS"]
    # The output arrives over a separate connection.
    assert front.recorded("GET", "/api/v0/logs/stream.*")


def test_pipes_refuses_an_untrusted_certificate(
    front: FaultProxy, tmp_path: Path, refuses: Any
) -> None:
    front.reset()
    more = {} if refuses is None else {"verify": refuses}
    with pytest.raises(DagsterRayError) as raised:
        _script(front.url, tmp_path, **more)
    _is_refusal(raised.value, front)


@pytest.mark.parametrize(
    "variable",
    [
        "SSL_CERT_FILE",
        *(
            pytest.param(name, marks=pytest.mark.nightly)
            for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
        ),
    ],
)
def test_a_variable_with_certificates_replaces_those_of_the_machine(
    front: FaultProxy,
    authority: certificates.Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    monkeypatch.setenv(variable, str(authority.file))
    assert _script(front.url, tmp_path) == ["over TLS"]
    front.reset()
    another = str(certificates.authority(tmp_path, "another").file)
    monkeypatch.setenv(variable, another)
    with pytest.raises(DagsterRayError) as raised:
        _script(front.url, tmp_path)
    _is_refusal(raised.value, front)
    # The option takes precedence.
    assert _script(front.url, tmp_path, verify=str(authority.file)) == ["over TLS"]
    monkeypatch.setenv(variable, str(tmp_path / "missing.pem"))
    with pytest.raises(DagsterRayError, match=f"{variable}.*missing.pem"):
        _script(front.url, tmp_path)


@pytest.mark.nightly
def test_a_directory_of_certificates_is_trusted(
    front: FaultProxy, authority: certificates.Authority, tmp_path: Path
) -> None:
    assert _script(front.url, tmp_path, verify=str(authority.file.parent)) == ["over TLS"]


@pytest.mark.skipif(not SYSTEM_BUNDLE.exists(), reason="this system has its CAs elsewhere")
def test_the_authorities_of_the_system_are_trusted(
    front: FaultProxy, authority: certificates.Authority
) -> None:
    """In a mount namespace of its own, the system has our authority."""
    front.reset()
    code = (
        "from dagster_ray import PipesRayJobClient\n"
        "from dagster_ray.contract import PipesClient\n"
        f"pipes = PipesClient(PipesRayJobClient(address={front.url!r}).backend)\n"
        "job = {'submission_id': 'unknown', 'dashboard_url': None, 'details': None}\n"
        "print(pipes.wait(job)['state'])\n"
    )
    mount = f'mount --bind {authority.file} {SYSTEM_BUNDLE} && exec "$@"'
    command = ["unshare", "-Urm", "sh", "-c", mount, "sh", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "missing", done.stderr
    assert front.recorded("GET", "/api/jobs/unknown")


def test_rays_job_submission_client_gets_the_option_verify(
    front: FaultProxy, authority: certificates.Authority
) -> None:
    trusting = PipesRayJobClient(address=front.url, verify=str(authority.file)).client
    assert isinstance(trusting.list_jobs(), list)
    with pytest.raises(Exception, match=r"certificate|connect"):
        PipesRayJobClient(address=front.url).client.list_jobs()


def test_a_self_signed_certificate_is_accepted(ray_head: RayHead, tmp_path: Path) -> None:
    """`openssl req -x509` creates such a certificate, and Ray's client accepts it."""
    context, file = certificates.self_signed_server(tmp_path)
    with FaultProxy.start(ray_head.url, context) as front:
        assert _script(front.url, tmp_path, verify=str(file)) == ["over TLS"]


def test_a_file_without_a_certificate_is_named_in_the_error(
    front: FaultProxy, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    front.reset()
    for file in (empty, tmp_path / "missing.pem"):
        with pytest.raises(DagsterRayError) as raised:
            _script(front.url, tmp_path, verify=str(file))
        assert str(file) in str(raised.value)
        # Such an error is not repeated until Ray is given up.
        assert not isinstance(raised.value, UnavailableError)
    assert not front.requests
