"""Fixtures: one Ray head per pytest session, one Dagster home per test."""

import os
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import DagsterInstance

sys.path.insert(0, str(Path(__file__).parents[1] / "cluster"))
sys.path.insert(0, str(Path(__file__).parent / "migration"))
sys.path.insert(0, str(Path(__file__).parent))

from cluster import cluster, namespace, own_cluster, pytest_addoption
from dagster_ray.testing import simulated_ray
from fault_proxy import FaultProxy
from oci_registry import registry
from pipes_script import Write
from ray_head import RayHead, RunningHead

__all__ = ["cluster", "namespace", "own_cluster", "pytest_addoption", "registry", "simulated_ray"]

# The tests must not submit jobs to a developer's own Ray.
for variable in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "DAGSTER_HOME"):
    os.environ.pop(variable, None)
# Many tests choose the address and the backend in run config.
os.environ["DAGSTER_RAY_POLICY"] = str(Path(__file__).with_name("launch_policy.toml"))


def pytest_collection_finish() -> None:
    # Ray reads its authentication mode once, when its library is loaded. The head's token does not
    # exist yet.
    assert "ray._raylet" not in sys.modules, "a test module imports ray; import it in the test"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if {"ray_head", "unwatched_ray_head", "cluster"} & fixtures:
            item.add_marker(pytest.mark.slow)
        if "cluster" in fixtures:
            item.add_marker(pytest.mark.kubernetes)


@contextmanager
def _started(log: Path, **options: Any) -> Iterator[RayHead]:
    # Unix limits the length of socket paths, so Ray's directory needs a short path.
    root = Path(tempfile.mkdtemp(prefix="dr-", dir="/tmp"))
    before = dict(os.environ)
    head = RayHead(root, log, **options)
    os.environ.update(head.environment)
    yield head
    os.environ.clear()
    os.environ.update(before)
    left = head.stop()
    shutil.rmtree(root, ignore_errors=True)
    assert not left, left


@pytest.fixture(scope="session")
def ray_head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHead]:
    """Returns a Ray head of this session, or the one of several sessions."""
    file = os.environ.get("DAGSTER_RAY_TEST_HEAD")
    if file is not None:
        shared = RunningHead.read(Path(file))
        os.environ.update(shared.environment)
        yield shared
        return
    with _started(tmp_path_factory.getbasetemp() / "ray-head.log") as head:
        yield head


@pytest.fixture
def unwatched_ray_head(tmp_path: Path) -> Iterator[RayHead]:
    """Starts a Ray head for one test, which may kill and restart single processes of Ray."""
    with _started(tmp_path / "unwatched-ray-head.log", watched=False) as head:
        yield head


@pytest.fixture
def script(tmp_path: Path) -> Write:
    """Returns a function that writes a Python script and returns the command that runs it."""

    def write(body: str) -> str:
        file = tmp_path / f"script-{len(list(tmp_path.iterdir()))}.py"
        file.write_text(textwrap.dedent(body))
        return f"{sys.executable} {file}"

    return write


@pytest.fixture
def proxy(ray_head: RayHead) -> Iterator[FaultProxy]:
    with FaultProxy.start(ray_head.url) as proxy:
        yield proxy


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Callable[[dict], DagsterInstance]]:
    """Returns a function that creates a Dagster home with the given `dagster.yaml`."""
    instances: list[DagsterInstance] = []

    def make(settings: dict) -> DagsterInstance:
        directory = tmp_path / f"home-{len(instances)}"
        directory.mkdir()
        settings = {"telemetry": {"enabled": False}, **settings}
        (directory / "dagster.yaml").write_text(yaml.safe_dump(settings))
        instance = DagsterInstance.from_config(str(directory))
        instances.append(instance)
        return instance

    yield make
    for instance in instances:
        instance.dispose()
