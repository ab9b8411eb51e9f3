"""Stores and loads values as `run.py` asks: `python measure.py`. Prints a line of JSON per request.

A request is a line of JSON, `[function, arguments…]`. Times are in seconds. The script runs in the
environment of the measured package, so it imports no other module of this project.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray

STORE_BYTES = 6 << 30
READERS = 10
CASES: dict[str, Callable[[], Any]] = {
    "array of 1 KiB": lambda: np.arange(1 << 7),
    "array of 1 MiB": lambda: np.arange(1 << 17),
    "array of 256 MiB": lambda: np.arange(1 << 25),
    "500,000 dicts": lambda: [
        {"id": n, "name": f"name {n}", "value": n / 2} for n in range(500_000)
    ],
}


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

    def take(self, value: Any) -> None:
        """Receives a value."""


class Ray:
    """Ray alone, with an actor that holds the references, because other processes load values."""

    def __init__(self, holder: Any) -> None:
        self.holder = holder

    def prepare(self, key: str) -> None:
        """Nothing."""

    def put(self, key: str, value: Any) -> None:
        self.reference = ray.put(value)

    def call(self, key: str, value: Any) -> None:
        """Sends the value to an actor."""
        ray.get(self.holder.take.remote(value))

    def store(self, key: str, value: Any) -> None:
        ray.get(self.holder.keep.remote(key, [ray.put(value)]))

    def load(self, key: str) -> Any:
        return ray.get(ray.get(self.holder.find.remote(key))[0])


class Managed:
    """`RayIOManager`, called as Dagster calls it."""

    def __init__(self, holder: Any) -> None:
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


WAYS: dict[str, type[Ray] | type[Managed]] = {"ray": Ray, "managed": Managed}


@ray.remote(num_cpus=0)
class Reader:
    """A process that loads values, like a Dagster step."""

    def __init__(self, name: str, holder: Any) -> None:
        self._way = WAYS[name](holder)

    def load(self, key: str, times: int) -> list[float]:
        self._way.prepare(key)
        seconds: list[float] = []
        for _ in range(times):
            begin = time.perf_counter()
            value = self._way.load(key)
            seconds.append(time.perf_counter() - begin)
            del value
        return seconds


class Measure:
    """The requests that `run.py` can make."""

    def __init__(self) -> None:
        self._holder = Holder.remote()
        self._values = {case: make() for case, make in CASES.items()}
        self._ways: dict[str, Any] = {}
        self._readers: dict[str, Any] = {}

    def open(self, name: str) -> None:
        """Creates a way to store values, and its reader."""
        self._ways[name] = way = WAYS[name](self._holder)
        self._readers[name] = Reader.remote(name, self._holder)
        way.prepare("warm-up")
        way.store("warm-up", np.arange(10))
        way.load("warm-up")
        ray.get(self._readers[name].load.remote("warm-up", 1))

    def store(self, name: str, case: str, method: str = "store") -> float:
        way, key, value = self._ways[name], _key(case), self._values[case]
        # A context accepts the metadata of one output only.
        way.prepare(key)
        store = getattr(way, method)
        begin = time.perf_counter()
        store(key, value)
        return time.perf_counter() - begin

    def load(self, name: str, case: str, times: int) -> list[float]:
        """Returns the times of loads in another process."""
        return ray.get(self._readers[name].load.remote(_key(case), times))

    def readers(self, name: str, case: str) -> list[float]:
        """Returns the time of the first load in each of several new processes, at once."""
        readers = [Reader.remote(name, self._holder) for _ in range(READERS)]
        ray.get([reader.load.remote("warm-up", 1) for reader in readers])
        loads = ray.get([reader.load.remote(_key(case), 1) for reader in readers])
        return [seconds for [seconds] in loads]

    def memory(self, *actors: str) -> int:
        """Returns the anonymous memory of the actors of these classes, in bytes."""
        titles = tuple(f"ray::{actor}" for actor in actors)
        total = 0
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "cmdline").read_text().startswith(titles):
                    rollup = (process / "smaps_rollup").read_text()
                    fields = dict(line.split(":", 1) for line in rollup.splitlines()[1:])
                    total += 1024 * int(fields["Anonymous"].split()[0])
            except (OSError, ValueError):
                continue
        return total


def _key(case: str) -> str:
    return case.replace(" ", "_").replace(",", "")


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
    measure = Measure()
    for line in sys.stdin:
        function, *arguments = json.loads(line)
        print(json.dumps(getattr(measure, function)(*arguments)), flush=True)
    ray.shutdown()
