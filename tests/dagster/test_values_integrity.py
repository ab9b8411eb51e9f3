"""Values that an operator's key signs are verified before they are unpickled. Needs no Ray."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from dagster_ray import RayIOManager
from dagster_ray.errors import BackendError, InvalidConfigError, PermissionDeniedError
from dagster_ray.instance_policy import check_run_tag
from dagster_ray.io.directory_store import DirectoryStore
from dagster_ray.io.frames import pack, unpack
from dagster_ray.io.integrity import operator_keys

KEY, OTHER = "k" * 44, "o" * 44
VARIABLE = "DAGSTER_RAY_VALUE_KEYS"
Home = Callable[[dict[str, Any]], dg.DagsterInstance]
Change = Callable[[Path], None]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)


@pytest.fixture(params=["path", "fsspec URL"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "path" else f"local://{tmp_path}"


def _store(location: str) -> DirectoryStore:
    return DirectoryStore(location, operator_keys(None))


class Attack:
    """A pickle that runs code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)


def test_signed_values_are_stored_found_and_loaded(location: str) -> None:
    store, array = _store(location), np.arange(1000)
    store.put("d/a", pack({"array": array, "n": 1}), True, None, {"k": "v"})
    loaded = unpack(store.get("d/a"))
    assert (loaded["array"] == array).all() and loaded["n"] == 1
    assert [entry["attributes"] for entry in store.find("d/")] == [{"k": "v"}]
    [file] = Path(location.removeprefix("local://")).rglob("*.value")
    assert KEY.encode() not in file.read_bytes()


@pytest.mark.parametrize(
    "change", ["byte", "truncated", "swapped", "unsigned", "empty", "other key"]
)
def test_a_value_that_the_key_has_not_signed_is_refused_with_its_name(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    store, marker = _store(location), tmp_path / "executed"
    store.put("d/a", pack([1]), True, None, {})
    file = tmp_path / "d/a.value"
    if change == "byte":
        content = bytearray(file.read_bytes())
        content[-60] ^= 1
        file.write_bytes(content)
    elif change == "truncated":
        file.write_bytes(file.read_bytes()[:-7])
    elif change == "empty":
        file.write_bytes(b"dagster-ray value 2\n")
    elif change == "swapped":
        store.put("d/b", pack([2]), True, None, {})
        file.write_bytes((tmp_path / "d/b.value").read_bytes())
    elif change == "unsigned":
        DirectoryStore(location).put("d/a", pack(Attack(marker)), True, None, {})
    else:
        monkeypatch.setenv(VARIABLE, OTHER)
        _store(location).put("d/a", pack(Attack(marker)), True, None, {})
    with pytest.raises(BackendError, match="d/a") as refused:
        unpack(store.get("d/a"))
    assert (
        "before it was unpickled" in str(refused.value) and refused.value.reason == "UntrustedValue"
    )
    assert KEY not in str(refused.value)
    assert not marker.exists()
    # The store goes on, and the value can be replaced.
    store.put("d/a", pack([3]), True, None, {})
    assert unpack(store.get("d/a")) == [3]


def test_an_earlier_key_is_accepted_after_a_rotation(
    location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _store(location).put("d/a", pack([1]), True, None, {})
    monkeypatch.setenv(VARIABLE, f"{OTHER} {KEY}")
    rotated = _store(location)
    assert unpack(rotated.get("d/a")) == [1]
    rotated.put("d/b", pack([2]), True, None, {})
    monkeypatch.setenv(VARIABLE, OTHER)
    assert unpack(_store(location).get("d/b")) == [2]
    with pytest.raises(BackendError, match="keep the old one"):
        _store(location).get("d/a")


def test_a_file_that_changes_after_it_was_verified_is_not_seen(tmp_path: Path) -> None:
    store = _store(str(tmp_path))
    store.put("d/a", pack(np.zeros(1000)), True, None, {})
    frames = store.get("d/a")
    with (tmp_path / "d/a.value").open("r+b") as file:
        file.seek(-4000, os.SEEK_END)
        file.write(b"\xff" * 100)
    assert (unpack(frames) == 0).all()


def test_an_io_manager_refuses_a_value_that_another_program_wrote(
    tmp_path: Path,
) -> None:
    manager = RayIOManager(backend="files", directory=str(tmp_path / "values"))
    manager.handle_output(dg.build_output_context(run_id="r", step_key="s", name="n"), [1])
    source = dg.build_output_context(run_id="r", step_key="s", name="n")
    context = dg.build_input_context(upstream_output=source, name="i")
    assert manager.load_input(context) == [1]
    [file] = (tmp_path / "values").rglob("*.value")
    head = file.read_bytes()
    payload = pickle.dumps(Attack(tmp_path / "executed"), protocol=5)
    file.write_bytes(head[: -len(payload)] + payload)
    with pytest.raises(BackendError, match="refused before it was unpickled"):
        manager.load_input(context)
    assert not (tmp_path / "executed").exists()


def test_the_policy_names_key_files_which_replace_the_variable(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_RAY_POLICY")
    root, key = Path(home({}).root_directory), tmp_path / "value.key"
    (root / "dagster-ray.toml").write_text(f"[values]\nkey_files = ['{key}']\n")
    with pytest.raises(InvalidConfigError, match=r"value\.key cannot be read"):
        operator_keys(str(root))
    key.write_text("short")
    with pytest.raises(InvalidConfigError, match="fewer than 32") as refused:
        operator_keys(str(root))
    assert "short" not in str(refused.value)
    key.write_text(OTHER + "\n")
    keys = operator_keys(str(root))
    assert keys is not None and list(keys.keys) == [OTHER.encode()]
    assert OTHER not in repr(keys)
    monkeypatch.delenv(VARIABLE)
    assert operator_keys(None) is None


def test_a_launch_user_cannot_choose_the_key(home: Home) -> None:
    for override in (
        {"env_vars": [f"{VARIABLE}={OTHER}"]},
        {"runtime_env": {"env_vars": {VARIABLE: OTHER}}},
    ):
        with pytest.raises(PermissionDeniedError, match=VARIABLE) as denied:
            check_run_tag(home({}), override)
        assert OTHER not in str(denied.value)
