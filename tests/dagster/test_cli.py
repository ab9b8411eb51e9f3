"""The command `dagster-ray` of the package, and backends in OCI registries. Needs no Ray."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import certificates
import dagster_ray
import pytest
from component_files import FIXTURES, put
from dagster_ray.backend import Backend
from dagster_ray.configs import BackendConfig
from dagster_ray.errors import InvalidConfigError, UnavailableError
from run_spec import PLAN

Command = Callable[..., subprocess.CompletedProcess[str]]


def _arguments(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dagster_ray", *arguments]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAGSTER_RAY_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return tmp_path / "cache"


@pytest.fixture
def command(cache: Path) -> Command:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(_arguments(*arguments), capture_output=True, text=True, timeout=120)

    return run


def _json(ended: subprocess.CompletedProcess[str]) -> Any:
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_components_lists_the_packages_own_components_without_compiling(
    command: Command, cache: Path
) -> None:
    listed = {row["backend"]: row for row in _json(command("components", "--json"))}
    assert list(cache.glob("*")) == [], "listing compiles nothing"
    own = Path(dagster_ray.__file__).parent / "components"
    assert set(listed) == {path.stem for path in own.glob("*.wasm")}
    assert all(row["path"].startswith(str(own)) for row in listed.values())
    assert command("call", "nothing", "describe.describe").returncode == 2


@pytest.fixture
def hostile(tmp_path: Path) -> str:
    """A component that performs its setting `attack` and returns the outcome as an error."""
    wasm = put(FIXTURES / "hostile.wasm", tmp_path / "mine.wasm")
    wasm.with_suffix(".toml").write_text(
        'id = "mine"\n[grants]\nhttp = ["address"]\npackages = true\nobjects = ["ours"]\n'
        'processes = { echo = [["hello"]] }\n'
    )
    return str(wasm)


def test_verify_selects_the_trusted_certificates(
    command: Command, hostile: str, tmp_path: Path
) -> None:
    trusted = certificates.authority(tmp_path, "trusted")
    server = ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
    context = certificates.server(tmp_path, trusted)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://127.0.0.1:{server.server_port}"
    attack = ("--setting", f"attack=get {url}/", "--address", url)

    def error(*options: str) -> str:
        call = ("call", hostile, "launcher.plan", json.dumps(PLAN))
        ended = command(*call, *attack, *options)
        assert ended.returncode == 4
        return ended.stderr

    assert "answered 200" in error("--verify", str(trusted.file))
    assert "answered 200" in error("--verify", "false")
    refused = error()
    assert "answered" not in refused and "certificate" in refused
    another = certificates.authority(tmp_path, "another")
    assert "certificate" in error("--verify", str(another.file))
    server.shutdown()


def test_verbose_logs_to_standard_error(command: Command) -> None:
    quiet = command("call", "existing", "describe.describe")
    assert (_json(quiet)["name"], quiet.stderr) == ("existing", "")
    verbose = command("call", "existing", "describe.describe", "-v")
    assert _json(verbose)["name"] == "existing"
    assert "info dagster_ray.host.loader: loaded " in verbose.stderr


def test_an_interrupt_ends_a_running_call_with_exit_code_130(cache: Path, hostile: str) -> None:
    process = subprocess.Popen(
        _arguments("call", hostile, "launcher.plan", json.dumps(PLAN), "--setting", "attack=spin"),
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background processes with SIGINT ignored; the tests may run in one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    # The call begins once the compiled component is in the cache.
    deadline = time.monotonic() + 60
    while not list(cache.glob("*.cwasm")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert "interrupted" in stderr and "Traceback" not in stderr


def test_a_pushed_backend_is_used_by_its_pinned_reference(command: Command, registry: str) -> None:
    reference = f"{registry}/team/existing"
    pushed = _json(command("push", "existing", f"{reference}:1", "--json"))["reference"]
    assert pushed.startswith(f"{reference}@sha256:")
    backend = Backend(BackendConfig(backend=pushed, address="http://127.0.0.1:9"))
    planned = backend.call("launcher.plan", PLAN)
    assert planned["job"]["job"]["submission_id"] == "dagster-run-r"


def test_a_backend_reference_without_a_digest_is_refused_with_the_pull_command() -> None:
    with pytest.raises(InvalidConfigError) as raised:
        Backend(BackendConfig(backend="oci://ghcr.io/team/backend:1"))
    assert "dagster-ray pull oci://ghcr.io/team/backend:1" in str(raised.value)
    assert raised.value.fields and raised.value.fields[0]["path"] == "backend"


def test_an_unreachable_registry_raises_unavailable_error(cache: Path) -> None:
    pinned = f"oci://127.0.0.1:9/backend@sha256:{'0' * 64}"
    backend = Backend(BackendConfig(backend=pinned, address="http://127.0.0.1:9"))
    with pytest.raises(UnavailableError, match="registry cannot be used"):
        backend.call("launcher.plan", PLAN)
