"""Loading component files that are copied, damaged, incompatible or replaced. Needs no Ray."""

import hashlib
from pathlib import Path

import pytest
from component_files import built_in
from dagster_ray.backend import Backend
from dagster_ray.configs import BackendConfig
from dagster_ray.errors import ComponentLoadError, UnsupportedError
from run_spec import PLAN


def _copy(name: str, into: Path) -> Path:
    return built_in(name, into / "mine.wasm")


def _backend(wasm: Path) -> Backend:
    return Backend(BackendConfig(backend=str(wasm), address="http://127.0.0.1:9"))


def test_a_copied_component_works_at_another_path(tmp_path: Path) -> None:
    planned = _backend(_copy("existing", tmp_path)).call("launcher.plan", PLAN)
    assert planned["job"]["job"]["submission_id"] == "dagster-run-r"


def test_a_truncated_file_is_refused_with_its_name(tmp_path: Path) -> None:
    wasm = _copy("existing", tmp_path)
    wasm.write_bytes(wasm.read_bytes()[:1000])
    with pytest.raises(ComponentLoadError, match=r"mine\.wasm"):
        _backend(wasm).call("launcher.plan", PLAN)


def test_a_core_module_is_refused(tmp_path: Path) -> None:
    wasm = _copy("existing", tmp_path)
    wasm.write_bytes(b"\0asm\x01\0\0\0")
    with pytest.raises(ComponentLoadError, match="module"):
        _backend(wasm).call("launcher.plan", PLAN)


def test_a_component_of_another_contract_version_is_refused_with_both_versions(
    tmp_path: Path,
) -> None:
    wasm = _copy("existing", tmp_path)
    supported, other = b"dagster-ray:backend/launcher@0.1.0", b"dagster-ray:backend/launcher@0.2.0"
    assert supported in wasm.read_bytes()
    wasm.write_bytes(wasm.read_bytes().replace(supported, other))
    with pytest.raises(ComponentLoadError) as raised:
        _backend(wasm).call("launcher.plan", PLAN)
    assert "launcher@0.2.0" in str(raised.value)
    assert "0.1.x" in str(raised.value), "the versions that this host supports"


def test_a_file_whose_digest_differs_from_the_manifest_is_refused(tmp_path: Path) -> None:
    wasm = _copy("existing", tmp_path)
    manifest = wasm.with_suffix(".toml")
    pinned = hashlib.sha256(b"another").hexdigest()
    manifest.write_text(f'sha256 = "{pinned}"\n' + manifest.read_text())
    with pytest.raises(ComponentLoadError) as raised:
        _backend(wasm).call("launcher.plan", PLAN)
    assert pinned in str(raised.value)
    assert hashlib.sha256(wasm.read_bytes()).hexdigest() in str(raised.value)


def test_a_missing_file_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(ComponentLoadError, match=r"absent\.wasm"):
        _backend(tmp_path / "absent.wasm").call("launcher.plan", PLAN)


def test_a_replaced_file_is_used_from_the_next_call(tmp_path: Path) -> None:
    wasm = _copy("existing", tmp_path)
    backend = _backend(wasm)
    assert backend.call("describe.describe", {})["name"] == "existing"
    _copy("local", tmp_path)
    assert backend.call("describe.describe", {})["name"] == "local"
    wasm.write_bytes(b"gone wrong")
    with pytest.raises(ComponentLoadError):
        backend.call("describe.describe", {})
    _copy("existing", tmp_path)
    assert backend.call("describe.describe", {})["name"] == "existing"


def test_calling_a_missing_export_names_the_exported_interfaces(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="launcher"):
        _backend(_copy("existing", tmp_path)).call("cluster.list", {})
