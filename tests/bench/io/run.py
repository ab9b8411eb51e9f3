"""Compares the IO manager with Ray itself and with `dagster-ray` of PyPI, in one run.

`python run.py OURS THEIRS`: the interpreters of the two environments. Ray itself is measured
twice, first and last: how far these two are apart is the noise of the machine. "Ray, asked" is Ray
itself where the reader has to ask an actor for the reference, because another process stored the
value: between Dagster's steps it is always so.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from measured_build import announce

MEASURE = Path(__file__).with_name("measure.py")
OTHERS = ("RAY_ADDRESS", "DAGSTER_HOME")


def measured(interpreter: str, name: str) -> dict[str, Any]:
    print(f"measuring {name} …", file=sys.stderr, flush=True)
    environment = {key: value for key, value in os.environ.items() if key not in OTHERS}
    done = subprocess.run(
        [interpreter, str(MEASURE), name],
        stdout=subprocess.PIPE,
        # Dagster's own log lines.
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
        env={**environment, "RAY_AUTH_MODE": "disabled", "PYTHONWARNINGS": "ignore"},
    )
    return json.loads(done.stdout.splitlines()[-1])


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


def main() -> None:
    ours, theirs = sys.argv[1:3]
    announce(ours)
    first = measured(ours, "raw")
    asked = measured(ours, "asked")
    mine = measured(ours, "ours")
    other = measured(theirs, "theirs")
    last = measured(ours, "raw")
    titles = ("Ray itself", "Ray, asked", "ours", "dagster-ray")
    ratios = ("ours / Ray", "ours / asked", "theirs / ours")
    rows = [("", *titles, *ratios, "noise")]

    def row(title: str, *path: str) -> None:
        def of(results: Any) -> float:
            for part in path:
                results = results[part]
            return results

        raws = sorted([of(first), of(last)])
        raw = sum(raws) / 2
        rows.append(
            (
                title,
                *map(milliseconds, (raw, of(asked), of(mine), of(other))),
                f"{of(mine) / raw:.2f}",
                f"{of(mine) / of(asked):.2f}",
                f"{of(other) / of(mine):.1f}",
                f"± {100 * (raws[1] - raws[0]) / 2 / raw:.0f} %",
            )
        )

    for case in [case for case in mine if case not in ("readers", "registry")]:
        row(f"{case}: store", case, "store")
        row(f"{case}: load", case, "load")
        if "read" in mine[case]:
            row(f"{case}: load and read through", case, "read")
    for results in (first, asked, mine, other, last):
        dicts = results["500,000 dicts"]
        results["dicts, both"] = dicts["store"] + dicts["load"]
    row("500,000 dicts: store and load", "dicts, both")
    row("256 MiB: 10 readers, first load each", "readers", "each")
    row("256 MiB: 10 readers, loads again", "readers", "again")
    row("256 MiB: 10 readers at once, together", "readers", "together")
    widths = [max(len(line[place]) for line in rows) for place in range(len(rows[0]))]
    for line in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )
    for name, results in (("ours", mine), ("dagster-ray", other)):
        size = results["registry"]
        shown = "unknown" if size is None else f"{size / 2**20:.0f} MiB"
        print(f"memory of the registry's own, {name}: {shown}")


if __name__ == "__main__":
    main()
