"""Measures one way to store values: `python measure.py raw|actor|own|pypi`. Prints JSON.

Times are in seconds. Each way runs on a separate Ray with the same settings. The script runs in the
environment of the measured package, so it imports no other module of this project.
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
# A function that creates the value, and the number of repetitions, for each case.
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
    """Ray alone: the process that stored the value holds the reference."""

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
    """An actor that holds references and returns them to other processes."""

    def __init__(self) -> None:
        self._kept: dict[str, list[Any]] = {}

    def keep(self, key: str, reference: list[Any]) -> None:
        # In a list: Ray would replace a reference that is an argument with its value.
        self._kept[key] = reference

    def find(self, key: str) -> list[Any]:
        return self._kept[key]


class ViaActor:
    """Ray with an actor that holds the references, because another process stored the value.

    Every Dagster step needs this, so it is the lower limit for any store in Ray.
    """

    def __init__(self, holder: Any = None) -> None:
        self.holder = holder or Holder.remote()

    def prepare(self, key: str) -> None:
        """Nothing."""

    def store(self, key: str, value: Any) -> None:
        ray.get(self.holder.keep.remote(key, [ray.put(value)]))

    def load(self, key: str) -> Any:
        return ray.get(ray.get(self.holder.find.remote(key))[0])


class Managed:
    """`RayIOManager`, called as Dagster calls it."""

    def __init__(self) -> None:
        from dagster_ray import RayIOManager

        self.manager = RayIOManager()
        self._contexts: dict[str, tuple[Any, Any]] = {}

    def prepare(self, key: str) -> None:
        """Creates Dagster's contexts in advance, which takes longer than most operations."""
        import dagster as dg

        output = dg.build_output_context(asset_key=key, name="result")
        context = dg.build_input_context(asset_key=key, upstream_output=output)
        self._contexts[key] = output, context

    def store(self, key: str, value: Any) -> None:
        self.manager.handle_output(self._contexts[key][0], value)

    def load(self, key: str) -> Any:
        return self.manager.load_input(self._contexts[key][1])


Way = Raw | ViaActor | Managed


@ray.remote(num_cpus=0)
class Reader:
    """A process that loads values, like a Dagster step."""

    def __init__(self, name: str, kept: dict[str, Any], holder: Any) -> None:
        ways = {"raw": lambda: Raw(kept), "actor": lambda: ViaActor(holder)}
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
    way: Way = {"raw": Raw, "actor": ViaActor}.get(name, Managed)()
    way.prepare("warm-up")
    way.store("warm-up", np.arange(10))
    way.load("warm-up")
    results: dict[str, Any] = {}
    for case, (make, times) in CASES.items():
        value = make()
        key = case.replace(" ", "_").replace(",", "")
        stores, loads = [], []
        for _ in range(times):
            # A context accepts the metadata of one output only.
            way.prepare(key)
            stores.append(_timed(lambda value=value, key=key: way.store(key, value)))
        # A store may return before its work is done, so the first load is measured separately.
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
    holder = way.holder if isinstance(way, ViaActor) else None
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
    """Returns the anonymous memory of the registry actor in bytes, without the object store."""
    titles = {"own": "ray::Registry", "pypi": "ray::RayObjectMap"}
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
