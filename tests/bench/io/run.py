"""Compares the IO manager with Ray alone and with PyPI's `dagster-ray`, in one run.

`python run.py OWN PYPI`: the interpreters of the two environments. Ray alone is measured first and
last; the difference is the noise of the machine. "Ray via actor" gets the reference from an actor,
because another process stored the value, as between Dagster's steps.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from measured_build import announce
from report import report

MEASURE = Path(__file__).with_name("measure.py")
OTHERS = ("RAY_ADDRESS", "DAGSTER_HOME")


def measured(interpreter: str, name: str) -> dict[str, Any]:
    print(f"measuring {name} …", file=sys.stderr, flush=True)
    environment = {key: value for key, value in os.environ.items() if key not in OTHERS}
    done = subprocess.run(
        [interpreter, str(MEASURE), name],
        stdout=subprocess.PIPE,
        # Dagster writes its log there.
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
        env={**environment, "RAY_AUTH_MODE": "disabled", "PYTHONWARNINGS": "ignore"},
    )
    return json.loads(done.stdout.splitlines()[-1])


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


def main() -> None:
    own_python, pypi_python = sys.argv[1:3]
    announce(own_python)
    first = measured(own_python, "raw")
    actor = measured(own_python, "actor")
    own = measured(own_python, "own")
    pypi = measured(pypi_python, "pypi")
    last = measured(own_python, "raw")
    titles = ("Ray alone", "Ray via actor", "wasm", "PyPI")
    ratios = ("wasm / Ray", "wasm / actor", "PyPI / wasm")
    rows = [("", *titles, *ratios, "noise")]

    def row(title: str, *path: str) -> None:
        def figure(results: Any) -> float:
            for part in path:
                results = results[part]
            return results

        raws = sorted([figure(first), figure(last)])
        raw = sum(raws) / 2
        rows.append(
            (
                title,
                *map(milliseconds, (raw, figure(actor), figure(own), figure(pypi))),
                f"{figure(own) / raw:.2f}",
                f"{figure(own) / figure(actor):.2f}",
                f"{figure(pypi) / figure(own):.1f}",
                f"± {100 * (raws[1] - raws[0]) / 2 / raw:.0f} %",
            )
        )

    for case in [case for case in own if case not in ("readers", "registry")]:
        row(f"{case}: store", case, "store")
        row(f"{case}: load", case, "load")
        if "read" in own[case]:
            row(f"{case}: load and sum up", case, "read")
    for results in (first, actor, own, pypi, last):
        dicts = results["500,000 dicts"]
        results["dicts, both"] = dicts["store"] + dicts["load"]
    row("500,000 dicts: store and load", "dicts, both")
    row("256 MiB: 10 readers, first load each", "readers", "each")
    row("256 MiB: 10 readers, second load each", "readers", "again")
    row("256 MiB: 10 readers, all first loads", "readers", "together")
    sizes = []
    for name, results in (("wasm", own), ("PyPI", pypi)):
        size = results["registry"]
        shown = "unknown" if size is None else f"{size / 2**20:.0f} MiB"
        sizes.append(f"Memory of the registry actor, {name}: {shown}.")
    report("io", rows, sizes)


if __name__ == "__main__":
    main()
