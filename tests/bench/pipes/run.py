"""Compares the Pipes client with `dagster-ray` of PyPI, in one run.

`python run.py OURS THEIRS`: the interpreters of the two environments. Ours is measured twice,
first and last: how far these two are apart is the noise of the machine.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

MEASURE = Path(__file__).with_name("measure.py")
OTHERS = ("RAY_ADDRESS", "DAGSTER_HOME")


def measured(interpreter: str, name: str) -> dict[str, Any]:
    print(f"measuring {name} …", file=sys.stderr, flush=True)
    environment = {key: value for key, value in os.environ.items() if key not in OTHERS}
    # As a shell finds it: Ray runs the script's `python` from there, too.
    done = subprocess.run(
        [interpreter, str(MEASURE)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        env={**environment, "RAY_AUTH_MODE": "disabled", "PYTHONWARNINGS": "ignore"},
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    ours, theirs = sys.argv[1:3]
    first = measured(ours, "ours")
    other = measured(theirs, "dagster-ray")
    last = measured(ours, "ours again")

    def noise(key: str) -> str:
        low, high = sorted((first[key], last[key]))
        return f"± {100 * (high - low) / (high + low):.0f} %"

    def mean(key: str) -> float:
        return (first[key] + last[key]) / 2

    lines, delay = mean("lines_per_second"), mean("delay")
    rows = [
        ("", "ours", "dagster-ray", "ratio", "noise"),
        (
            "plain lines per second",
            f"{lines:,.0f}",
            f"{other['lines_per_second']:,.0f}",
            f"{lines / other['lines_per_second']:.1f}",
            noise("lines_per_second"),
        ),
        (
            "median delay from print to Dagster",
            f"{delay * 1000:.0f} ms",
            f"{other['delay'] * 1000:.0f} ms",
            f"{delay / other['delay']:.2f}",
            noise("delay"),
        ),
        (
            "a script that prints nothing",
            f"{mean('nothing'):.1f} s",
            f"{other['nothing']:.1f} s",
            f"{mean('nothing') / other['nothing']:.2f}",
            noise("nothing"),
        ),
        (
            "memory grown by the lines",
            f"{mean('grown_mib'):.0f} MiB",
            f"{other['grown_mib']:.0f} MiB",
            "",
            "",
        ),
        ("lines tried that all arrived", f"{first['whole']:,}", f"{other['whole']:,}", "", ""),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


if __name__ == "__main__":
    main()
