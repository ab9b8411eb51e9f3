"""Environment variables for tests give one warning in a process that no test has started."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dagster_ray.testing import SimulatedRay

# Configures logging as `dagster-daemon` does, and makes two calls on each of two backends.
DAEMON = """
from dagster._utils.log import configure_loggers
configure_loggers()
from dagster_ray.backend import Backend
from dagster_ray.configs import BackendConfig
for _ in range(2):
    backend = Backend(BackendConfig(address="http://127.0.0.1:9"))
    for _ in range(2):
        backend.call("launcher.check", {"runs": []})
"""


def _warnings(**environment: str) -> list[str]:
    """Returns the lines about such variables that a daemon writes to standard error."""
    ended = subprocess.run(
        [sys.executable, "-c", DAEMON],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return [line for line in ended.stderr.splitlines() if "DAGSTER_RAY_" in line]


def test_a_simulation_directory_without_a_test_gives_one_warning(tmp_path: Path) -> None:
    assert _warnings() == []
    [warning] = _warnings(DAGSTER_RAY_SIMULATION=str(tmp_path))
    assert f"DAGSTER_RAY_SIMULATION={tmp_path} is set" in warning
    assert "the configured Ray is not used" in warning


def test_the_simulation_of_an_ended_test_gives_a_warning(tmp_path: Path) -> None:
    simulated = SimulatedRay(tmp_path / "simulation")
    directory = str(tmp_path / "simulation")
    assert _warnings(DAGSTER_RAY_SIMULATION=directory) == []
    simulated.close()
    assert len(_warnings(DAGSTER_RAY_SIMULATION=directory)) == 1


def test_the_simulation_of_a_killed_test_gives_a_warning(tmp_path: Path) -> None:
    """The file test.pid remains, with the id of a process that has ended."""
    SimulatedRay(tmp_path / "simulation")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "simulation/test.pid").write_text(str(gone.pid))
    assert len(_warnings(DAGSTER_RAY_SIMULATION=str(tmp_path / "simulation"))) == 1


def test_the_simulated_ray_fixture_gives_no_warning(
    simulated_ray: SimulatedRay, caplog: pytest.LogCaptureFixture
) -> None:
    variables: dict[str, Any] = {k: v for k, v in simulated_ray.environment.items() if v}
    assert _warnings(**variables) == []
    assert simulated_ray.jobs == []
    assert [record for record in caplog.records if "DAGSTER_RAY" in record.getMessage()] == []


@pytest.mark.parametrize(
    ("mode", "consequence"), [("record", "are recorded in"), ("replay", "never reach Ray")]
)
def test_a_cassette_gives_one_warning(tmp_path: Path, mode: str, consequence: str) -> None:
    [warning] = _warnings(DAGSTER_RAY_CASSETTE=f"{mode}:{tmp_path}")
    assert "DAGSTER_RAY_CASSETTE is set" in warning
    assert consequence in warning and str(tmp_path) in warning
