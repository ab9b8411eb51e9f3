"""Compares the IO manager with Ray alone and with PyPI's `dagster-ray`, in one run.

`python run.py OWN PYPI`: the interpreters of the two environments. The ways take turns, so that
other work on the machine disturbs all of them. Loads happen in another process than stores.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from measured_build import announce
from report import report

MEASURE = Path(__file__).with_name("measure.py")
OTHERS = ("RAY_ADDRESS", "DAGSTER_HOME")
# A store may leave work for later, which must not disturb what is measured next.
PAUSE_SECONDS = 0.5
REPETITIONS = {
    "array of 1 KiB": 21,
    "array of 1 MiB": 21,
    "array of 256 MiB": 9,
    "500,000 dicts": 5,
}
# The method of Ray that is the lower limit of a store.
LIMITS = {"array of 1 KiB": "call", "array of 1 MiB": "call"}
LIMIT_TITLES = {"call": "actor call with the value", "put": "`ray.put`"}
READ = "actor call and `ray.get`"


class Environment:
    """A process in the environment of a package, with a Ray of its own."""

    def __init__(self, interpreter: str) -> None:
        environment = {key: value for key, value in os.environ.items() if key not in OTHERS}
        # Dagster writes its log there.
        descriptor, name = tempfile.mkstemp(suffix=".log")
        self._log = Path(name)
        self._process = subprocess.Popen(
            [interpreter, str(MEASURE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=descriptor,
            text=True,
            env={**environment, "RAY_AUTH_MODE": "disabled", "PYTHONWARNINGS": "ignore"},
        )

    def ask(self, *request: Any) -> Any:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{request} failed:\n{self._log.read_text()[-3000:]}")
        return json.loads(answer)

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()
        self._log.unlink()


def milliseconds(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.2f} ms"


def noise(seconds: list[float]) -> str:
    """Returns half of the distance between the quartiles, relative to the median."""
    if len(seconds) < 2:
        return "one run"
    low, median, high = statistics.quantiles(seconds, n=4)
    return f"± {100 * (high - low) / 2 / median:.0f} %"


def row(title: str, limit: str, raw: list[float], own: list[float], pypi: list[float]) -> Any:
    medians = [statistics.median(seconds) for seconds in (raw, own, pypi)]
    return (
        title,
        limit,
        *map(milliseconds, (raw, own, pypi)),
        f"{medians[1] / medians[0]:.2f}",
        f"{medians[2] / medians[1]:.1f}",
        f"{noise(raw)}, {noise(own)}",
    )


def rows_of_case(case: str, own: Environment, pypi: Environment) -> list[Any]:
    """Measures stores and loads of a value."""
    print(f"measuring {case} …", file=sys.stderr, flush=True)
    limit = LIMITS.get(case, "put")
    asks = {
        "raw": lambda: own.ask("store", "ray", case, limit),
        "kept": lambda: own.ask("store", "ray", case),
        "own": lambda: own.ask("store", "managed", case),
        "pypi": lambda: pypi.ask("store", "managed", case),
    }
    stores: dict[str, list[float]] = {name: [] for name in asks}
    for _ in range(REPETITIONS[case]):
        for name, ask in asks.items():
            stores[name].append(ask())
            time.sleep(PAUSE_SECONDS)
    loads: dict[str, list[float]] = {"raw": [], "own": [], "pypi": []}
    for _ in range(REPETITIONS[case]):
        loads["raw"] += own.ask("load", "ray", case, 3)
        loads["own"] += own.ask("load", "managed", case, 3)
        loads["pypi"] += pypi.ask("load", "managed", case, 3)
    return [
        row(f"{case}: store", LIMIT_TITLES[limit], stores["raw"], stores["own"], stores["pypi"]),
        row(f"{case}: load", READ, loads["raw"], loads["own"], loads["pypi"]),
    ]


def disturbance() -> str:
    """Returns a sentence about other work on the machine."""
    load = os.getloadavg()[1]
    if load < (os.cpu_count() or 1) + 1:
        return f"The mean load of the last 5 minutes was {load:.1f}."
    return (
        f"Other work ran on the machine: the mean load of the last 5 minutes was {load:.1f}. "
        "The times and ratios are therefore not reliable."
    )


def main() -> None:
    own_python, pypi_python = sys.argv[1:3]
    announce(own_python)
    own, pypi = Environment(own_python), Environment(pypi_python)
    own.ask("open", "ray")
    own.ask("open", "managed")
    pypi.ask("open", "managed")
    rows = [("", "limit", "Ray", "wasm", "PyPI", "wasm / Ray", "PyPI / wasm", "noise (Ray, wasm)")]
    for case in REPETITIONS:
        rows += rows_of_case(case, own, pypi)
    case = "array of 256 MiB"
    readers = [
        own.ask("readers", "ray", case),
        own.ask("readers", "managed", case),
        pypi.ask("readers", "managed", case),
    ]
    rows.append(row("256 MiB: 10 new readers at once, each", READ, *readers))
    sizes = own.ask("memory", "Registry", "NodeActor"), pypi.ask("memory", "RayObjectMap")
    lines = [
        "Memory of the actors that keep values, without the object store: "
        f"wasm {sizes[0] >> 20} MiB (two processes), PyPI {sizes[1] >> 20} MiB.",
        disturbance(),
    ]
    own.close()
    pypi.close()
    report("io", rows, lines)


if __name__ == "__main__":
    main()
