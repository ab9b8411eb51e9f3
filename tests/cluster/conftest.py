"""The tests of the test cluster use the same fixtures as all other tests."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "dagster"))
sys.path.insert(0, str(Path(__file__).parent))

from cluster import cluster, namespace, own_cluster, pytest_addoption

__all__ = ["cluster", "namespace", "own_cluster", "pytest_addoption"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
