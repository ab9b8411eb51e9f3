"""Measures one way to keep values: `python measure.py raw|asked|ours|theirs`. Prints JSON.

Times are in seconds. Each way gets a Ray of its own with the same settings. It runs in the
environment of the package that it measures, so it imports that package and nothing else of this
project.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray

STORE_BYTES = 6 << 30
READERS = 10
# What is measured, with how often.
CASES: dict[str, tuple[Callable[[], Any], int]] = {
    "array of 1 KiB": (lambda: np.arange(1 << 7), 30),
    "array of 1 MiB": (lambda: np.arange(1 << 17), 30),
    "array of 256 MiB": (lambda: np.arange(1 << 25), 5),
    "500,000 dicts": (
        lambda: [{"id": n, "name": f"name {n}", "value": n / 2} for n in range(500_000)],
        5,
    ),
}


class Raw:
    """Ray itself, without anybody who keeps values for others."""

    def __init__(self, kept: dict[str, Any] | None = None) -> None:
        self.kept = kept or {}

    def prepare(self, key: str) -> None:
        """Nothing."""

    def store(self, key: str, value: Any) -> None:
        self.kept[key] = ray.put(value)

    def load(self, key: str) -> Any:
        return ray.get(self.kept[key])


@ray.remote(num_cpus=0)
class Holder:
    """Holds references, and hands them to whoever asks."""

    def __init__(self) -> None:
        self._kept: dict[str, list[Any]] = {}

    def keep(self, key: str, reference: list[Any]) -> None:
        # In a list: Ray would put the value itself in the place of a reference.
        self._kept[key] = reference

    def find(self, key: str) -> list[Any]:
        return self._kept[key]


class Asked:
    """Ray itself, where the reader is not the process that stored: it has to ask for the
    reference, as every step does. Nothing that keeps values in Ray can take less."""

    def __init__(self, holder: Any = None) -> None:
        self.holder = holder or Holder.remote()

    def prepare(self, key: str) -> None:
        """Nothing."""

    def store(self, key: str, value: Any) -> None:
        ray.get(self.holder.keep.remote(key, [ray.put(value)]))

    def load(self, key: str) -> Any:
        return ray.get(ray.get(self.holder.find.remote(key))[0])


class Managed:
    """An IO manager, called as Dagster calls it."""

    def __init__(self) -> None:
        from dagster_ray import RayIOManager

        self.manager = RayIOManager()
        self._contexts: dict[str, tuple[Any, Any]] = {}

    def prepare(self, key: str) -> None:
        """Makes Dagster's contexts, which cost more than most of what is measured here."""
        import dagster as dg

        output = dg.build_output_context(asset_key=key, name="result")
        context = dg.build_input_context(asset_key=key, upstream_output=output)
        self._contexts[key] = output, context

    def store(self, key: str, value: Any) -> None:
        self.manager.handle_output(self._contexts[key][0], value)

    def load(self, key: str) -> Any:
        return self.manager.load_input(self._contexts[key][1])


Way = Raw | Asked | Managed


@ray.remote(num_cpus=0)
class Reader:
    """A process that loads values, as each of Dagster's steps is one."""

    def __init__(self, name: str, kept: dict[str, Any], holder: Any) -> None:
        ways = {"raw": lambda: Raw(kept), "asked": lambda: Asked(holder)}
        self._way = ways.get(name, Managed)()

    def prepare(self, key: str) -> None:
        self._way.prepare(key)

    def load(self, key: str) -> float:
        begin = time.perf_counter()
        value = self._way.load(key)
        seconds = time.perf_counter() - begin
        del value
        return seconds


def measure(name: str) -> dict[str, Any]:
    way: Way = {"raw": Raw, "asked": Asked}.get(name, Managed)()
    way.prepare("warm-up")
    way.store("warm-up", np.arange(10))
    way.load("warm-up")
    results: dict[str, Any] = {}
    for case, (make, times) in CASES.items():
        value = make()
        key = case.replace(" ", "_").replace(",", "")
        stores, loads = [], []
        for _ in range(times):
            # A context takes the metadata of one output.
            way.prepare(key)
            stores.append(_timed(lambda value=value, key=key: way.store(key, value)))
        # A store that returns before its work is done is only done once the value can be loaded.
        first = _timed(lambda key=key: way.load(key))
        for _ in range(times):
            loads.append(_timed(lambda key=key: way.load(key)))
        results[case] = {
            "store": statistics.median(stores),
            "first load": first,
            "load": statistics.median(loads),
        }
        if isinstance(value, np.ndarray):
            reads = [_timed(lambda key=key: way.load(key).sum()) for _ in range(times)]
            results[case]["read"] = statistics.median(reads)
    results["readers"] = _readers(name, way)
    results["registry"] = _registry_bytes(name)
    return results


def _timed(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - begin
    del result
    return seconds


def _readers(name: str, way: Way) -> dict[str, float]:
    kept = dict(way.kept) if isinstance(way, Raw) else {}
    holder = way.holder if isinstance(way, Asked) else None
    readers = [Reader.remote(name, kept, holder) for _ in range(READERS)]
    for key in ("warm-up", "array_of_256_MiB"):
        ray.get([reader.prepare.remote(key) for reader in readers])
    ray.get([reader.load.remote("warm-up") for reader in readers])
    begin = time.perf_counter()
    each = ray.get([reader.load.remote("array_of_256_MiB") for reader in readers])
    together = time.perf_counter() - begin
    again = ray.get([reader.load.remote("array_of_256_MiB") for reader in readers])
    return {
        "together": together,
        "each": statistics.median(each),
        "again": statistics.median(again),
    }


def _registry_bytes(name: str) -> int | None:
    """Memory of the actor that keeps values, without what it maps of the object store."""
    titles = {"ours": "ray::Registry", "theirs": "ray::RayObjectMap"}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title = (process / "cmdline").read_text()
            if name in titles and title.startswith(titles[name]):
                rollup = (process / "smaps_rollup").read_text()
                fields = dict(line.split(":", 1) for line in rollup.splitlines()[1:])
                return 1024 * int(fields["Anonymous"].split()[0])
        except (OSError, ValueError):
            continue
    return None


if __name__ == "__main__":
    ray.init(
        num_cpus=16,
        object_store_memory=STORE_BYTES,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        address="local",
        logging_level="ERROR",
        log_to_driver=False,
    )
    print(json.dumps(measure(sys.argv[1])))
    ray.shutdown()
