"""The cost of importing the package, and its registration as a Dagster library."""

import json
import resource
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

PROBE = """
import json, sys, threading, time
import dagster
before = set(sys.modules)
begin = time.process_time()
import dagster_ray
seconds = time.process_time() - begin
imported = sorted(set(sys.modules) - before)
executor = dagster_ray.ray_executor, dagster_ray.RayRunLauncher, dagster_ray.LocalRay
heavy = [name for name in ("ray", "kubernetes", "requests") if name in sys.modules]
print(json.dumps([seconds, len(imported), heavy, threading.active_count()]))
"""


def test_import_is_fast_and_imports_neither_ray_nor_kubernetes() -> None:
    """Importing the executor and the launcher starts no thread."""
    costs = []
    for _ in range(3):
        output = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True
        )
        seconds, modules, heavy, threads = json.loads(output.stdout)
        assert heavy == []
        assert threads == 1
        assert modules < 30
        costs.append(seconds)
    assert min(costs) < 0.060, costs


def test_module_paths_of_earlier_releases_export_the_same_names() -> None:
    import dagster_ray
    from dagster_ray import BaseRayResource, Lifecycle, LocalRay, RayResource, ray_executor
    from dagster_ray.config import RayExecutionConfig
    from dagster_ray.core import RayRunLauncher
    from dagster_ray.executor import ray_executor as earlier_executor
    from dagster_ray.local import LocalRay as EarlierLocalRay
    from dagster_ray.run_launcher import RayRunLauncher as EarlierLauncher

    assert ray_executor is earlier_executor
    assert LocalRay is EarlierLocalRay
    assert RayRunLauncher is EarlierLauncher is dagster_ray.RayRunLauncher
    assert BaseRayResource is RayResource
    assert Lifecycle().cleanup == "always"
    tag = {"dagster-ray/config": '{"num_cpus": 0}'}
    assert RayExecutionConfig.from_tags(tag).num_cpus == 0


# Modules of PyPI's `dagster-ray` with the names that its users import from them.
MODULES_ON_PYPI = {
    "_base.resources": ["RayResource"],
    "core.executor": ["ray_executor"],
    "core.io_manager": ["RayIOManager"],
    "core.pipes": ["PipesRayJobClient", "PipesRayJobMessageReader"],
    "core.resources": ["LocalRay"],
    "core.run_launcher": ["RayRunLauncher"],
    "executor": ["ray_executor"],
    "io_manager": ["RayIOManager"],
    "pipes": ["PipesRayJobClient", "PipesRayJobMessageReader"],
    "resources": ["BaseRayResource", "RayResource"],
    "run_launcher": ["RayRunLauncher"],
}


@pytest.mark.parametrize("module", MODULES_ON_PYPI)
def test_module_paths_of_pypis_package_export_the_same_names(module: str) -> None:
    import dagster_ray

    imported = import_module(f"dagster_ray.{module}")
    for name in MODULES_ON_PYPI[module]:
        assert getattr(imported, name) is getattr(dagster_ray, name)


# Dagster is imported before the package, after it, or only by a module of the package.
ORDERS = {
    "dagster first": "import dagster, dagster_ray",
    "dagster later": "import dagster_ray, dagster; dagster_ray.RayRunLauncher",
    "a name": "from dagster_ray import Lifecycle",
    "the launcher's module": "from dagster_ray.launcher import RayRunLauncher",
    "the launcher's module on PyPI": "from dagster_ray.core.run_launcher import RayRunLauncher",
    "the launcher's earlier module": "from dagster_ray.run_launcher import RayRunLauncher",
    "a resource's module": "from dagster_ray.resources import RayResource",
    "a resource's module on PyPI": "from dagster_ray._base.resources import RayResource",
    "the IO manager's module": "from dagster_ray.io.io_manager import RayIOManager",
    "the Pipes client's module": "from dagster_ray.pipes import PipesRayJobClient",
    "the configuration": "from dagster_ray.config import RayExecutionConfig",
    "the types": "from dagster_ray.types import AnyDagsterContext",
    "KubeRay": "import dagster_ray.kuberay",
    "KubeRay's modules": "from dagster_ray.kuberay.configs import RayClusterSpec",
}
LISTED = """
from dagster._core.libraries import DagsterLibraryRegistry
print(DagsterLibraryRegistry.get().get("dagster-ray"))
"""


@pytest.mark.parametrize("order", ORDERS)
def test_dagster_lists_the_library_for_every_import_order(order: str) -> None:
    import dagster_ray

    command = [sys.executable, "-c", f"{ORDERS[order]}\n{LISTED}"]
    listed = subprocess.run(command, capture_output=True, text=True)
    assert listed.stdout.strip() == dagster_ray.__version__, listed.stderr


def test_importing_the_package_does_not_import_dagster() -> None:
    code = "import sys, dagster_ray, dagster_ray.errors; sys.exit('dagster' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_store_actor_does_not_import_dagster() -> None:
    """Ray unpickles the actor's class in a worker, which imports its module for that."""
    code = "import sys, dagster_ray.io.registry; sys.exit('dagster' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


COMMAND = """
import sys
sys.argv = ["dagster-ray", *{arguments!r}]
from dagster_ray.cli import main
code = main()
assert "dagster" not in sys.modules and "ray" not in sys.modules, "imported"
sys.exit(code)
"""


@pytest.mark.parametrize(
    "arguments", [["--version"], ["components"], ["inspect", "existing"], ["clean", "--dry-run"]]
)
def test_the_command_does_not_import_dagster(arguments: list[str]) -> None:
    code = COMMAND.format(arguments=arguments)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_the_command_starts_fast() -> None:
    """The goal is 150 ms on an idle machine. Importing Dagster alone takes a second."""
    costs = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "dagster_ray", "--version"], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # CPU time in seconds, because other processes share the machine.
    assert min(costs) < 0.25, costs


def test_collecting_tests_with_the_plugin_does_not_import_dagster(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import sys\n"
        "from dagster_ray.testing import simulated_ray\n"
        "def pytest_collection_finish(session):\n"
        "    print('dagster' in sys.modules, 'pytest' in sys.modules)\n"
    )
    (tmp_path / "test_mine.py").write_text("def test_mine(simulated_ray): ...\n")
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-s", "-c", "/dev/null"]
    collected = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True)
    assert "False True" in collected.stdout, collected.stdout + collected.stderr
    assert "test_mine" in collected.stdout
