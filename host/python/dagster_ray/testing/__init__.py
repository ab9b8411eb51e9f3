"""A pytest fixture that tests Dagster jobs without Ray and without waiting.

With the fixture `simulated_ray`, runs, steps and scripts are real processes, and their values are
stored in files. Only Ray is simulated, by the component `simulated`. It follows the rules of the
real backends, and its clock skips every wait. A test injects faults:

    def test_training_survives(simulated_ray):
        simulated_ray.unavailable(seconds=10)
        simulated_ray.out_of_memory(step="train", times=1)
        result = simulated_ray.execute("my_project.definitions", job="training")
        assert result.success
        assert simulated_ray.clock.elapsed >= 10

pytest finds the fixture if the package is installed. If it is only importable, write
`from dagster_ray.testing import simulated_ray` in the tests' conftest.py.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dagster_ray import _installation, lazy_names

if TYPE_CHECKING:
    from dagster_ray.testing.results import Result
    from dagster_ray.testing.runs import LaunchedRun
    from dagster_ray.testing.simulated import Clock, SimulatedJob, SimulatedRay

# pytest loads this module in every session, even if no test needs Ray, so it must not import
# Dagster.
_installation.check()


@pytest.fixture
def simulated_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Iterator[SimulatedRay]":
    """A simulated Ray for one test. It is removed when the test ends."""
    from dagster_ray.testing.simulated import SimulatedRay

    simulated = SimulatedRay(tmp_path / "simulated-ray")
    for name, value in simulated.environment.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    try:
        yield simulated
    finally:
        simulated.close()


def __getattr__(name: str) -> Any:
    return lazy_names.find(__name__, name)


__all__ = ["Clock", "LaunchedRun", "Result", "SimulatedJob", "SimulatedRay", "simulated_ray"]
