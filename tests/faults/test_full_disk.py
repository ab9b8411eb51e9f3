"""A full disk, in a mount namespace of the test's own. Needs no Ray."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick
_OWN = ("unshare", "--user", "--map-root-user", "--mount")
_DAGSTER_TESTS = Path(__file__).parents[1] / "dagster"


def _on_a_small_disk(folder: Path, size: str, body: str) -> str:
    """Runs Python code whose first argument is a folder of this size, and returns its output."""
    if subprocess.run([*_OWN, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine permits no user namespaces")
    folder.mkdir()
    mount = f'mount -t tmpfs -o size={size} none "$1" && exec "$0" -c "$2" "$1"'
    program = [sys.executable, str(folder), textwrap.dedent(body)]
    done = subprocess.run(
        [*_OWN, "sh", "-c", mount, *program],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=_DAGSTER_TESTS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_value_that_does_not_fit_leaves_the_previous_one_and_no_file(tmp_path: Path) -> None:
    printed = _on_a_small_disk(
        tmp_path / "values",
        "2m",
        """
        import pathlib, sys
        from dagster_ray.errors import DagsterRayError
        from dagster_ray.io.directory_store import DirectoryStore
        from dagster_ray.io.frames import pack, unpack
        store = DirectoryStore(sys.argv[1])
        store.put("asset/kept/=", pack("before"), True, None, {})
        files = sorted(path.name for path in pathlib.Path(sys.argv[1]).rglob("*") if path.is_file())
        try:
            store.put("asset/kept/=", pack(b"x" * (8 << 20)), True, None, {})
        except (OSError, DagsterRayError) as error:
            print(error)
        assert unpack(store.get("asset/kept/=")) == "before"
        left = sorted(path.name for path in pathlib.Path(sys.argv[1]).rglob("*") if path.is_file())
        assert left == files, left
        """,
    )
    assert "No space left" in printed


def test_a_component_is_called_although_its_code_cannot_be_cached(tmp_path: Path) -> None:
    printed = _on_a_small_disk(
        tmp_path / "cache",
        "64k",
        """
        import os, pathlib, sys
        sys.path.insert(0, os.getcwd())
        os.environ["DAGSTER_RAY_CACHE_DIR"] = sys.argv[1]
        from component_files import built_in
        from dagster_ray.backend import Backend
        from dagster_ray.configs import BackendConfig
        place = pathlib.Path(sys.argv[1] + "-component")
        place.mkdir()
        wasm = built_in("existing", place / "mine.wasm")
        # Another digest, so that the wheel has no compiled code for it.
        wasm.write_bytes(wasm.read_bytes() + bytes([0, 2, 1, 120]))
        backend = Backend(BackendConfig(backend=str(wasm), address="http://127.0.0.1:9"))
        print(backend.call("describe.describe", {})["name"])
        assert not list(pathlib.Path(sys.argv[1]).iterdir()), "a part of the code is left"
        """,
    )
    assert printed == "existing\n"
