"""The host's log lines in Python's `logging`. Needs no Ray."""

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from component_files import FIXTURES, put
from dagster_ray.backend import Backend
from dagster_ray.configs import BackendConfig
from run_spec import PLAN, RUN

# The capacity of the host's queue of log lines, and a number of lines that exceeds it.
_WAITING = 256
_LOADED = 300
GRANTED = 'id = "echo"\n[grants]\npackages = true\n'


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAGSTER_RAY_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def level() -> Iterator[None]:
    """Resets the log levels after a test that changes them."""
    names = ("dagster_ray", "dagster_ray.host", "dagster_ray.host.loader")
    yield
    for name in names:
        logging.getLogger(name).setLevel(logging.NOTSET)


def _echo(folder: Path, manifest: str = 'id = "echo"\n') -> Backend:
    folder.mkdir(exist_ok=True)
    wasm = put(FIXTURES / "echo.wasm", folder / "mine.wasm")
    wasm.with_suffix(".toml").write_text(manifest)
    return Backend(BackendConfig(backend=str(wasm), address="http://127.0.0.1:9"))


def _of_host(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name.startswith("dagster_ray.host")]


def test_loading_a_component_is_logged_before_the_call_returns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = _echo(tmp_path)
    with caplog.at_level(logging.INFO, "dagster_ray"):
        backend.call("launcher.plan", PLAN)
        [loaded] = [record for record in _of_host(caplog) if "loaded" in record.getMessage()]
    assert (loaded.name, loaded.levelno) == ("dagster_ray.host.loader", logging.INFO)
    assert str(tmp_path / "mine.wasm") in loaded.getMessage()
    assert "component=echo" in loaded.getMessage()
    assert loaded.pathname.endswith("loader.rs")


def test_lines_below_the_log_level_are_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _echo(tmp_path).call("launcher.plan", PLAN)
    assert _of_host(caplog) == []


@pytest.mark.usefixtures("level")
def test_a_child_logger_can_have_its_own_level(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("dagster_ray.host.loader").setLevel(logging.INFO)
    # The host reads the levels of child loggers once a second.
    time.sleep(1.1)
    _echo(tmp_path).call("launcher.plan", PLAN)
    assert {record.name for record in _of_host(caplog)} == {"dagster_ray.host.loader"}


def test_a_warning_of_the_host_is_logged_as_a_warning(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _echo(tmp_path).call("launcher.plan", PLAN)
    [compiled] = cache.glob("*.cwasm")
    compiled.chmod(0o666)
    # Another backend loads the same component from the cache.
    backend = _echo(tmp_path / "other")
    backend.call("launcher.plan", PLAN)
    [warning] = _of_host(caplog)
    assert (warning.name, warning.levelno) == ("dagster_ray.host.cache", logging.WARNING)
    assert str(compiled) in warning.getMessage()


def test_a_warning_of_the_loader_is_emitted_once_with_or_without_a_listener(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    received: list[tuple[str, str]] = []
    _echo(tmp_path / "reported", GRANTED).call(
        "launcher.plan", PLAN, write=lambda level, line: received.append((level, line))
    )
    [(level, line)] = received
    assert level == "warning" and "packages = true" in line
    assert caplog.records == []

    component = _echo(tmp_path / "logged", GRANTED)._component(())
    component.call("launcher.plan", json.dumps(PLAN))
    [warning] = caplog.records
    assert (warning.name, warning.levelno) == ("dagster_ray", logging.WARNING)
    assert "packages = true" in warning.getMessage()


def test_a_components_log_line_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The fixture `echo` logs one line when it launches a run."""
    with caplog.at_level(logging.DEBUG, "dagster_ray"):
        _echo(tmp_path).call("launcher.launch", {"run": RUN})
    [asked] = [record for record in caplog.records if "launch of run" in record.getMessage()]
    assert (asked.name, asked.levelno) == ("dagster_ray", logging.INFO)


class _Slow(logging.Handler):
    """A handler that blocks until the test, which waits for the call, sets an event."""

    def __init__(self, release: threading.Event) -> None:
        super().__init__()
        self._release = release

    def emit(self, record: logging.LogRecord) -> None:
        self._release.wait(30)


def test_a_handler_that_waits_for_the_caller_does_not_block_the_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    release = threading.Event()
    logger = logging.getLogger("dagster_ray.host")
    handler = _Slow(release)
    logger.addHandler(handler)
    try:
        with caplog.at_level(logging.INFO, "dagster_ray"):
            began = time.monotonic()
            _echo(tmp_path).call("launcher.plan", PLAN)
            assert time.monotonic() - began < 20
    finally:
        release.set()
        logger.removeHandler(handler)


def test_lines_that_a_slow_handler_cannot_take_are_dropped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Compile the component once, before many threads load it.
    _echo(tmp_path / "first").call("launcher.plan", PLAN)
    release = threading.Event()
    logger = logging.getLogger("dagster_ray.host")
    handler = _Slow(release)
    logger.addHandler(handler)
    backends = [_echo(tmp_path / str(number)) for number in range(_LOADED)]
    try:
        with caplog.at_level(logging.INFO, "dagster_ray"), ThreadPoolExecutor(32) as threads:
            # Each backend has its own file, so each call loads a component and logs a line.
            list(threads.map(lambda backend: backend.call("launcher.plan", PLAN), backends))
            release.set()
            [dropped] = _until(lambda: [r for r in caplog.records if "dropped" in r.getMessage()])
    finally:
        release.set()
        logger.removeHandler(handler)
    loaded = [record for record in caplog.records if "loaded" in record.getMessage()]
    # The lines that the handler already had are not in the queue.
    assert _WAITING <= len(loaded) < _LOADED
    assert f"{_LOADED - len(loaded)} log lines were dropped" in dropped.getMessage()
    assert (dropped.name, dropped.levelno) == ("dagster_ray", logging.WARNING)


def _until(found: Callable[[], list[logging.LogRecord]]) -> list[logging.LogRecord]:
    deadline = time.monotonic() + 20
    while not (records := found()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return records


EXIT = """
import logging, sys
from dagster_ray.backend import Backend
from dagster_ray.configs import BackendConfig
logging.basicConfig(level=logging.DEBUG, format="%(name)s %(levelname)s %(message)s")
backend = Backend(BackendConfig(backend=sys.argv[1], address="http://127.0.0.1:9"))
pending = backend.start("launcher.check", {"runs": []})
if sys.argv[2] == "wait":
    pending.result()
"""


@pytest.mark.parametrize("how", ["wait", "leave"])
def test_a_process_exits_cleanly_while_the_host_logs(tmp_path: Path, how: str) -> None:
    """The process may exit at any moment of the call; later log lines are dropped."""
    wasm = put(FIXTURES / "echo.wasm", tmp_path / "mine.wasm")
    for _ in range(3):
        ended = subprocess.run(
            [sys.executable, "-c", EXIT, str(wasm), how],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.returncode == 0, ended.stderr
        assert "Traceback" not in ended.stderr and "Fatal" not in ended.stderr, ended.stderr
        if how == "wait":
            assert "dagster_ray.host.loader INFO loaded" in ended.stderr
