"""What importing the package costs."""

import json
import subprocess
import sys

PROBE = """
import json, sys, threading, time
import dagster
before = set(sys.modules)
begin = time.perf_counter()
import dagster_ray
seconds = time.perf_counter() - begin
imported = sorted(set(sys.modules) - before)
executor = dagster_ray.ray_executor, dagster_ray.RayRunLauncher, dagster_ray.LocalRay
heavy = [name for name in ("ray", "kubernetes", "requests") if name in sys.modules]
print(json.dumps([seconds, len(imported), heavy, threading.active_count()]))
"""


def test_import_is_cheap_and_pulls_neither_ray_nor_kubernetes() -> None:
    """P1: executor and launcher come without Ray, Kubernetes, and any thread."""
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


def test_names_and_earlier_module_paths() -> None:
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


def test_dagster_lists_the_library() -> None:
    import dagster_ray
    from dagster._core.libraries import DagsterLibraryRegistry

    assert DagsterLibraryRegistry.get()["dagster-ray"] == dagster_ray.__version__
