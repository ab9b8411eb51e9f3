"""`dagster-ray doctor`, with each failure made to happen."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import certificates
import dagster as dg
import pytest
import yaml
from component_files import FIXTURES, put
from dagster_ray import doctor as doctor_package
from dagster_ray.doctor.installation import version_check
from doctor_run import doctor, outcomes, run, shown
from document_blocks import blocks, whole_page
from fault_proxy import FaultProxy
from processes import free_port
from ray_head import RayHead
from test_installation import REMEDY, Environment

PAGE = whole_page("docs/doctor.md")
SOURCES = "".join(file.read_text() for file in Path(doctor_package.__file__).parent.glob("*.py"))

Home = Callable[[dict], dg.DagsterInstance]


def _home(home: Home, config: dict | None, **settings: object) -> str:
    if config is not None:
        launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": config}
        settings["run_launcher"] = launcher
    return home(settings).root_directory


def test_a_sound_deployment_passes_all_checks(home: Home, ray_head: RayHead) -> None:
    where = _home(home, {"address": ray_head.url})
    code, checks = doctor(home=where)
    found = outcomes(checks)
    assert code == 0, shown(checks)
    assert set(found.values()) == {"ok"}, shown(checks)
    for name in ("packages", "dagster", "cache", "instance", "policy", "launcher", "component"):
        assert name in found, name
    for name in ("ray", "job", "versions", "storage"):
        assert name in found, name
    assert checks["job"]["details"]["versions"]["dagster-ray-wasm"]


def test_the_address_of_the_command_precedes_the_launchers_and_the_environment(
    home: Home, ray_head: RayHead
) -> None:
    where = _home(home, {"address": f"http://127.0.0.1:{free_port()}"})
    other = f"http://127.0.0.1:{free_port()}"
    code, checks = doctor("--no-job", "--address", ray_head.url, home=where, RAY_ADDRESS=other)
    assert (code, checks["ray"]["outcome"]) == (0, "ok"), shown(checks)
    assert checks["job"]["outcome"] == "not-checked"


def test_an_unreachable_ray_fails_and_no_job_is_tried(home: Home) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = run(home=_home(home, {"address": url}), variables={})
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    [at] = [number for number, line in enumerate(lines) if line.startswith("failed")]
    assert url in lines[at] and lines[at].split()[1] == "ray", lines
    assert lines[at + 1].strip().startswith("-> start Ray, or correct `address`"), lines
    assert not any(line.split()[1:2] == ["job"] for line in lines), lines


def test_a_wrong_token_is_named(home: Home, ray_head: RayHead, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0" * 32)
    code, checks = doctor(
        home=_home(home, {"address": ray_head.url}), RAY_AUTH_TOKEN_PATH=str(token)
    )
    assert (code, checks["ray"]["outcome"]) == (1, "failed"), shown(checks)
    assert "RAY_AUTH_TOKEN" in checks["ray"]["remedy"]


def test_an_untrusted_certificate_fails_and_one_that_expires_soon_warns(
    home: Home, ray_head: RayHead, tmp_path: Path
) -> None:
    authority = certificates.authority(tmp_path, "private")
    context = certificates.server(tmp_path, authority)
    with FaultProxy.start(ray_head.url, context) as front:
        code, checks = doctor("--no-job", home=_home(home, {"address": front.url}))
        assert (code, checks["tls"]["outcome"]) == (1, "failed"), shown(checks)
        assert "verify" in checks["tls"]["remedy"]

        trusting = _home(home, {"address": front.url, "verify": str(authority.file)})
        code, checks = doctor("--no-job", home=trusting)
        assert (code, checks["ray"]["outcome"]) == (0, "ok"), shown(checks)
        # The test's certificate is valid for one more day.
        assert checks["tls"]["outcome"] == "warning"
        assert "0 more days" in checks["tls"]["message"]


def test_a_storage_that_ray_cannot_open_fails(
    home: Home, ray_head: RayHead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "storage").mkdir()
    monkeypatch.setenv("DAGSTER_RAY_TEST_STORAGE", str(tmp_path / "storage"))
    sqlite = {"sqlite": {"base_dir": {"env": "DAGSTER_RAY_TEST_STORAGE"}}}
    where = _home(home, {"address": ray_head.url}, storage=sqlite)
    code, checks = doctor(home=where)
    assert (code, checks["storage"]["outcome"]) == (1, "failed"), shown(checks)
    assert "DAGSTER_RAY_TEST_STORAGE" in checks["storage"]["message"]
    assert "env_vars" in checks["storage"]["remedy"]

    passing = {"address": ray_head.url, "env_vars": ["DAGSTER_RAY_TEST_STORAGE"]}
    code, checks = doctor(home=_home(home, passing, storage=sqlite))
    assert (code, checks["storage"]["outcome"]) == (0, "ok"), shown(checks)


def test_an_environment_of_ray_without_dagster_fails(
    home: Home, ray_head: RayHead, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(empty)], check=True)
    config = {"address": ray_head.url, "env_vars": [f"PATH={empty}/bin:/usr/bin:/bin"]}
    code, checks = doctor(home=_home(home, config))
    found = outcomes(checks)
    assert code == 1, shown(checks)
    assert found["dagster on Ray"] == found["dagster-ray-wasm on Ray"] == "failed", shown(checks)
    assert found["storage"] == "not-checked"


def test_a_job_that_cannot_start_fails_with_rays_reason(home: Home, ray_head: RayHead) -> None:
    config = {"address": ray_head.url, "resources": {"missing": 1}}
    code, checks = doctor("--timeout", "6", home=_home(home, config))
    assert (code, checks["job"]["outcome"]) == (1, "failed"), shown(checks)
    assert "pending after 6 s" in checks["job"]["message"]
    assert "--timeout" in checks["job"]["remedy"]
    assert not [name for name, job in ray_head.jobs().items() if job["status"] == "PENDING"]


def test_without_an_instance_the_remedy_is_to_export_dagster_home() -> None:
    code, checks = doctor("--no-job")
    assert (code, checks["instance"]["outcome"]) == (1, "failed"), shown(checks)
    assert checks["instance"]["remedy"].startswith("export DAGSTER_HOME=")


def test_mistakes_in_dagster_yaml_and_in_the_policy_are_shown(home: Home, tmp_path: Path) -> None:
    where = Path(_home(home, {"address": "http://head:8265"}))
    file = where / "dagster.yaml"
    settings = yaml.safe_load(file.read_text())
    settings["run_launcher"]["config"]["adress"] = "x"
    file.write_text(yaml.safe_dump(settings))
    policy = tmp_path / "policy.toml"
    policy.write_text("[launch]\nadresses = []\n")
    code, checks = doctor("--no-job", home=str(where), DAGSTER_RAY_POLICY=str(policy))
    assert code == 1
    found = checks["launcher"] if "launcher" in checks else checks["instance"]
    assert found["outcome"] == "failed" and "adress" in found["message"], shown(checks)
    assert checks["policy"]["outcome"] == "failed"
    assert "adresses" in checks["policy"]["message"]


def test_missing_keys_of_values_are_shown(home: Home, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(f'[values]\nkey_files = ["{tmp_path}/absent.key"]\n')
    where = _home(home, {"address": "http://127.0.0.1:1"})
    _, checks = doctor("--no-job", home=where, DAGSTER_RAY_POLICY=str(policy))
    assert checks["policy"]["outcome"] == "failed"
    assert "absent.key" in checks["policy"]["message"]


def test_dagsters_own_launcher_is_a_warning(home: Home, ray_head: RayHead) -> None:
    code, checks = doctor("--no-job", "--address", ray_head.url, home=_home(home, None))
    assert (code, checks["launcher"]["outcome"]) == (0, "warning"), shown(checks)
    assert "RayRunLauncher" in checks["launcher"]["remedy"]


def test_a_backend_that_cannot_be_loaded_fails(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "broken.wasm"
    file.write_bytes(b"no component")
    code, checks = doctor("--no-job", "--backend", str(file), home=_home(home, None))
    assert (code, checks["component"]["outcome"]) == (1, "failed"), shown(checks)
    assert str(file) in checks["component"]["message"]


def test_a_backend_without_the_signature_that_the_policy_requires_fails(
    home: Home, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
    policy.write_text(f'[signatures.keys]\nrelease = "{key}"\n')
    file = put(FIXTURES / "echo.wasm", tmp_path / "echo.wasm")
    where = _home(home, None)
    _, checks = doctor("--no-job", "--backend", str(file), home=where)
    assert checks["component"]["outcome"] == "ok", shown(checks)
    _, checks = doctor(
        "--no-job", "--backend", str(file), home=where, DAGSTER_RAY_POLICY=str(policy)
    )
    assert checks["component"]["outcome"] == "failed", shown(checks)
    assert "signed" in checks["component"]["message"]


def test_an_unusable_cache_and_damaged_files_in_it_fail(home: Home, tmp_path: Path) -> None:
    where = _home(home, None)
    _, checks = doctor("--no-job", home=where, DAGSTER_RAY_CACHE_DIR="/proc/cache")
    assert checks["cache"]["outcome"] == "failed", shown(checks)
    assert "DAGSTER_RAY_CACHE_DIR" in checks["cache"]["remedy"]

    cache = tmp_path / "cache"
    cache.mkdir()
    damaged = cache / f"{'0' * 64}-0123456789abcdef.cwasm"
    damaged.write_bytes(b"0" * 100)
    damaged.chmod(0o600)
    _, checks = doctor("--no-job", home=where, DAGSTER_RAY_CACHE_DIR=str(cache))
    assert checks["cache"]["outcome"] == "failed", shown(checks)
    assert "damaged" in checks["cache"]["message"]
    damaged.chmod(0o666)
    _, checks = doctor("--no-job", home=where, DAGSTER_RAY_CACHE_DIR=str(cache))
    assert "only this user" in checks["cache"]["message"]


def test_the_clash_with_pypis_package_is_one_document(tmp_path: Path) -> None:
    environment = Environment(tmp_path)
    environment.install(environment.own, environment.pypi)
    code = (
        "import sys; sys.argv = ['dagster-ray', 'doctor', '--json']; "
        "from dagster_ray.cli import main; sys.exit(main())"
    )
    done = environment.run(code)
    assert done.returncode == 1, done.stderr
    [check] = yaml.safe_load(done.stdout)["checks"]
    assert (check["name"], check["outcome"]) == ("packages", "failed")
    assert REMEDY in check["remedy"]


@pytest.mark.parametrize(("version", "outcome"), [("1.11.9", "failed"), ("1.12.0", "ok")])
def test_an_unsupported_version_fails(version: str, outcome: str) -> None:
    check = version_check("dagster", "dagster", version, ">=1.12")
    assert check.outcome == outcome
    assert outcome == "ok" or check.remedy == "install dagster>=1.12"


def test_the_commands_and_the_output_of_the_page_are_real(home: Home) -> None:
    where = _home(home, {"address": "http://127.0.0.1:1"})
    commands, outputs = list[list[str]](), list[str]()
    for block in blocks(PAGE):
        if block.language == "text":
            outputs.append(block.text)
            continue
        assert block.language == "shell", block.key
        commands += [shlex.split(line) for line in block.text.splitlines()]
    described = run("--help", variables={}).stdout
    for program, command, *words in commands:
        assert (program, command) == ("dagster-ray", "doctor")
        for word in words:
            assert not word.startswith("--") or f"{word} " in described.replace("\n", " ")
    [shown] = outputs
    done = run(home=where, variables={})
    assert shown in done.stdout, done.stdout
    for row in re.findall(r"^\| (`.*?) \|", PAGE, flags=re.MULTILINE):
        for name in re.findall(r"`(.*?)`", row):
            assert f'"{name}"' in SOURCES, f"no check is called {name}"
