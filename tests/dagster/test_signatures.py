"""A policy with `[signatures]` loads built-in and signed components only. Needs no Ray."""

import hashlib
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from component_files import BUILT_IN, put
from dagster_ray import RayIOManager, RayRunLauncher
from dagster_ray.backend import Backend
from dagster_ray.configs import BackendConfig
from dagster_ray.errors import ComponentLoadError, InvalidConfigError
from processes import wait_for
from run_spec import PLAN

Home = Callable[[dict[str, Any]], dg.DagsterInstance]
ADDRESS = "http://127.0.0.1:9"


def _run(*arguments: object) -> str:
    command = [
        sys.executable,
        "-m",
        "dagster_ray",
        *(str(argument) for argument in arguments),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pairs of keys `release` and `other`."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("release", "other"):
        _run("keygen", folder / name, "--no-password")
    return folder


@pytest.fixture
def _required(keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that requires a signature by the key `release`."""
    monkeypatch.delenv("DAGSTER_RAY_POLICY")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    public = (keys / "release.pub").read_text().splitlines()[1]
    (tmp_path / "dagster-ray.toml").write_text(f"[signatures.keys]\nrelease = '{public}'\n")


@pytest.fixture
def component(tmp_path: Path) -> Path:
    return put(BUILT_IN / "existing.wasm", tmp_path / "ours.wasm")


def _plan(backend: str) -> Any:
    backend_config = BackendConfig(backend=backend, address=ADDRESS)
    return Backend(backend_config, is_checked=True).call("launcher.plan", PLAN)


def _refusal(backend: Path) -> str:
    with pytest.raises(ComponentLoadError) as refused:
        _plan(str(backend))
    return str(refused.value)


def _audited(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Returns the lines of the audit trail."""
    lines = [one for one in caplog.records if one.name == "dagster_ray.audit"]
    return [json.loads(line.getMessage()) for line in lines]


@pytest.mark.usefixtures("_required")
def test_a_signed_component_is_used(keys: Path, component: Path) -> None:
    printed = _run("sign", component, "--key", keys / "release.key")
    assert Path(printed.strip()) == component.with_suffix(".toml.minisig")
    assert _plan(str(component))["job"]["job"]["submission_id"] == "dagster-run-r"
    digest = hashlib.sha256(component.read_bytes()).hexdigest()
    assert f'sha256 = "{digest}"' in component.with_suffix(".toml").read_text()


@pytest.mark.usefixtures("_required")
def test_built_in_components_need_no_signature() -> None:
    assert _plan("existing")["job"]["job"]["submission_id"] == "dagster-run-r"


@pytest.mark.usefixtures("_required")
def test_an_unsigned_component_is_refused_with_file_key_and_command(
    component: Path,
) -> None:
    text = _refusal(component)
    assert str(component) in text and "ours.toml.minisig" in text
    assert "release (" in text and "dagster-ray.toml" in text and "dagster-ray sign" in text


@pytest.mark.usefixtures("_required")
def test_a_refused_component_is_a_line_of_the_audit_trail(
    component: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "dagster_ray.audit"):
        # Levels of child loggers are cached for a second.
        time.sleep(1.1)
        _refusal(component)
        [line] = wait_for("the audit trail", lambda: _audited(caplog))
    assert (line["event"], line["component"]) == ("refused", str(component))
    assert "is not signed" in line["problem"] and line["export"] == "load"


@pytest.mark.usefixtures("_required")
def test_an_unsigned_component_of_a_registry_is_refused(
    keys: Path,
    registry: str,
    component: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("DAGSTER_RAY_CACHE_DIR", str(tmp_path / "cache"))
    pushed = {}
    for name, options in (("unsigned", []), ("signed", ["--sign", keys / "release.key"])):
        arguments = ["push", component, f"{registry}/team/{name}:1", *options, "--json"]
        pushed[name] = json.loads(_run(*arguments))["reference"]
    assert _plan(pushed["signed"])["job"]["job"]["submission_id"] == "dagster-run-r"
    with caplog.at_level(logging.INFO, "dagster_ray.audit"):
        # Levels of child loggers are cached for a second.
        time.sleep(1.1)
        with pytest.raises(ComponentLoadError, match="is not signed"):
            _plan(pushed["unsigned"])
        [line] = wait_for("the audit trail", lambda: _audited(caplog))
    assert (line["event"], line["component"]) == ("refused", pushed["unsigned"])
    assert line["export"] == "pull"


@pytest.mark.usefixtures("_required")
def test_a_component_that_another_key_signed_is_refused(keys: Path, component: Path) -> None:
    key = json.loads(_run("sign", component, "--key", keys / "other.key", "--json"))["key"]
    text = _refusal(component)
    assert f"signed by the key {key}" in text and "[signatures.keys]" in text


@pytest.mark.usefixtures("_required")
@pytest.mark.parametrize("changed", ["grant", "code", "digest in the manifest", "signature"])
def test_an_altered_component_is_refused(keys: Path, component: Path, changed: str) -> None:
    _run("sign", component, "--key", keys / "release.key")
    _plan(str(component))
    manifest = component.with_suffix(".toml")
    signature = component.with_suffix(".toml.minisig")
    if changed == "grant":
        text = manifest.read_text()
        manifest.write_text(
            text.replace('http = ["address"]', 'http = ["address", "http://evil:80"]')
        )
        assert manifest.read_text() != text
    elif changed == "code":
        component.write_bytes((BUILT_IN / "local.wasm").read_bytes())
    elif changed == "digest in the manifest":
        component.write_bytes((BUILT_IN / "local.wasm").read_bytes())
        pinned = hashlib.sha256(component.read_bytes()).hexdigest()
        lines = manifest.read_text().splitlines(keepends=True)
        lines[0] = f'sha256 = "{pinned}"\n'
        manifest.write_text("".join(lines))
    else:
        signature.write_text(signature.read_text().replace("file:", "name:"))
    text = _refusal(component)
    expected = "its sha256 is" if changed == "code" else "was changed"
    assert str(component) in text and expected in text


@pytest.mark.usefixtures("_required")
def test_the_launcher_refuses_an_unsigned_backend(home: Home, component: Path) -> None:
    config = {"address": ADDRESS, "backend": str(component)}
    launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": config}
    launcher = home({"run_launcher": launcher}).run_launcher
    assert isinstance(launcher, RayRunLauncher)
    with pytest.raises(ComponentLoadError, match="is not signed"):
        launcher.backend.call("launcher.plan", PLAN)
    # Python code that builds the launcher is no way around the policy.
    with pytest.raises(ComponentLoadError, match="is not signed"):
        RayRunLauncher(address=ADDRESS, backend=str(component)).backend.call("launcher.plan", PLAN)


def test_the_policy_beside_dagster_yaml_is_used_without_dagster_home(
    home: Home, component: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_RAY_POLICY")
    config = {"address": ADDRESS, "backend": str(component)}
    launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": config}
    instance = home({"run_launcher": launcher})
    Path(instance.root_directory, "dagster-ray.toml").write_text("[signatures]\nkeys = {}\n")
    assert isinstance(instance.run_launcher, RayRunLauncher)
    with pytest.raises(ComponentLoadError, match="only built-in components"):
        instance.run_launcher.backend.call("launcher.plan", PLAN)


@pytest.mark.usefixtures("_required")
def test_an_io_manager_refuses_an_unsigned_component(tmp_path: Path) -> None:
    wasm = put(BUILT_IN / "files.wasm", tmp_path / "store.wasm")
    manager = RayIOManager(backend=str(wasm), directory=str(tmp_path / "values"))
    with pytest.raises(ComponentLoadError, match="is not signed"):
        manager.handle_output(dg.build_output_context(run_id="r", step_key="s", name="n"), 1)
    assert not (tmp_path / "values").exists()


def test_a_policy_with_an_invalid_key_loads_nothing(
    component: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("[signatures.keys]\nrelease = 'RWx'\n")
    monkeypatch.setenv("DAGSTER_RAY_POLICY", str(policy))
    with pytest.raises(InvalidConfigError, match=r"(?s)policy\.toml.*release"):
        _plan(str(component))
