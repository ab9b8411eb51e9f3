"""Fixtures: one Ray and one Dagster deployment for all cells, until a fault ends that Ray."""

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
for folder in (_HERE / "code", _HERE.parent / "dagster", _HERE):
    sys.path.insert(0, str(folder))

from lab import Lab  # noqa: E402

# A shell starts background processes with SIGINT ignored, and so would all processes of a lab.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("soak")
    group.addoption("--soak-minutes", type=float, default=0.0, help="how long the soak runs")
    group.addoption("--soak-seed", type=int, default=None, help="the seed of the soak's actions")
    group.addoption(
        "--soak-results", type=Path, default=None, help="the file of the soak's results"
    )


@pytest.fixture(scope="session")
def labs() -> Iterator[Callable[[], Lab]]:
    """Returns a function that returns the services, started again if a fault has ended Ray."""
    current: list[Lab] = []

    def close() -> None:
        left = current.pop().close()
        assert not left, left

    def get() -> Lab:
        if current and current[0].is_broken:
            close()
        if not current:
            current.append(Lab())
        return current[0]

    yield get
    if current:
        close()
