"""Component files that cannot be used, and files that change. No Ray is needed."""

import hashlib
from pathlib import Path

import pytest
from component_files import built_in
from dagster_ray.backend import Backend, Connection
from dagster_ray.errors import ComponentLoadError, UnsupportedError

LOCATE = {"run_id": "r", "attempt": 0}


def _copy(name: str, into: Path) -> Path:
    return built_in(name, into / "mine.wasm")


def _backend(wasm: Path) -> Backend:
    return Backend(Connection(backend=str(wasm), address="http://127.0.0.1:9"))


def test_a_copied_file_works_from_anywhere(tmp_path: Path) -> None:
    located = _backend(_copy("existing", tmp_path)).call("launcher.locate", LOCATE)
    assert located["job"]["submission_id"] == "dagster-run-r"


def test_a_truncated_file_is_refused_by_name(tmp_path: Path) -> None:
    wasm = _copy("existing", tmp_path)
    wasm.write_bytes(wasm.read_bytes()[:1000])
    with pytest.raises(ComponentLoadError, match=r"mine\.wasm"):
        _backend(wasm).call("launcher.locate", LOCATE)


def test_a_core_module_is_told_from_a_component(tmp_path: Path) -> None:
    wasm = _copy("existing", tmp_path)
    wasm.write_bytes(b"\0asm\x01\0\0\0")
    with pytest.raises(ComponentLoadError, match="module"):
        _backend(wasm).call("launcher.locate", LOCATE)


def test_a_component_of_another_contract_is_told_so(tmp_path: Path) -> None:
    wasm = _copy("existing", tmp_path)
    ours, theirs = b"dagster-ray:backend/launcher@0.1.0", b"dagster-ray:backend/launcher@0.2.0"
    assert ours in wasm.read_bytes()
    wasm.write_bytes(wasm.read_bytes().replace(ours, theirs))
    with pytest.raises(ComponentLoadError) as raised:
        _backend(wasm).call("launcher.locate", LOCATE)
    assert "launcher@0.2.0" in str(raised.value)
    assert "0.1.x" in str(raised.value), "what this host takes"


def test_a_file_of_another_digest_than_pinned_is_refused(tmp_path: Path) -> None:
    wasm = _copy("existing", tmp_path)
    manifest = wasm.with_suffix(".toml")
    pinned = hashlib.sha256(b"another").hexdigest()
    manifest.write_text(f'sha256 = "{pinned}"\n' + manifest.read_text())
    with pytest.raises(ComponentLoadError) as raised:
        _backend(wasm).call("launcher.locate", LOCATE)
    assert pinned in str(raised.value)
    assert hashlib.sha256(wasm.read_bytes()).hexdigest() in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ComponentLoadError, match=r"absent\.wasm"):
        _backend(tmp_path / "absent.wasm").call("launcher.locate", LOCATE)


def test_a_file_that_is_replaced_is_used_by_the_next_call(tmp_path: Path) -> None:
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


def test_what_a_component_does_not_offer_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="launcher"):
        _backend(_copy("existing", tmp_path)).call("cluster.list", {})
