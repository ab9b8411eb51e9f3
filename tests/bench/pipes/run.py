"""Compares the Pipes client with PyPI's `dagster-ray`, in one run.

`python run.py OWN PYPI`: the interpreters of the two environments. Both are compared on the same
number of lines: the largest tried after which PyPI's package still delivers a message. Attempts
without the message are listed and excluded from all other figures. This package is measured twice;
the difference is the noise of the machine.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from measured_build import announce
from report import report

MEASURE = Path(__file__).with_name("measure.py")
OTHERS = ("RAY_ADDRESS", "DAGSTER_HOME")
LINES = int(os.environ.get("LINES_OF_OUTPUT", "3000000"))
ATTEMPT_SECONDS = 900

# Measures this number of lines. In the result of a failed attempt, `arrived` is false.
Attempt = Callable[[int], dict[str, Any]]


def measured(interpreter: str, name: str, *what: str) -> dict[str, Any]:
    print(f"measuring {name}: {' '.join(what)} …", file=sys.stderr, flush=True)
    environment = {key: value for key, value in os.environ.items() if key not in OTHERS}
    # The interpreter's path as given, not resolved: Ray runs the script with the same `python`.
    done = subprocess.run(
        [interpreter, str(MEASURE), *what],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        timeout=ATTEMPT_SECONDS,
        env={**environment, "RAY_AUTH_MODE": "disabled", "PYTHONWARNINGS": "ignore"},
    )
    return json.loads(done.stdout.splitlines()[-1])


def attempt(interpreter: str, name: str, count: int) -> dict[str, Any]:
    try:
        return measured(interpreter, name, "lines", str(count))
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return {"arrived": False}


def most_lines(tried: Attempt, count: int) -> tuple[int, dict[str, Any], list[int]]:
    """Returns the first successful line count, its figures, and the failed line counts."""
    lost: list[int] = []
    while count >= 1000:
        figures = tried(count)
        if figures["arrived"]:
            return count, figures, lost
        lost.append(count)
        count //= 3
    raise SystemExit("no message arrives, even after fewer than 3000 lines of output")


def main() -> None:
    own_python, pypi_python = sys.argv[1:3]
    announce(own_python)
    whole = attempt(own_python, "wasm", LINES)
    count, pypi, lost = most_lines(lambda count: attempt(pypi_python, "PyPI", count), LINES)
    own = [measured(own_python, "wasm", "lines", str(count)) for _ in range(2)]
    before = measured(own_python, "wasm", "delay")
    pypi_delay = measured(pypi_python, "PyPI", "delay")
    after = measured(own_python, "wasm again", "delay")
    rows = [("", "wasm", "PyPI", "ratio", "noise")]

    def row(title: str, key: str, pair: list[dict[str, Any]], other: float, unit: str) -> None:
        low, high = sorted(one[key] for one in pair)
        mean = (low + high) / 2
        noise = f"± {100 * (high - low) / (high + low):.0f} %" if high + low else ""
        ratio = f"{mean / other:.2f}" if other else ""
        rows.append((title, unit.format(mean), unit.format(other), ratio, noise))

    rate = pypi["lines_per_second"]
    row(f"lines per second, of {count:,}", "lines_per_second", own, rate, "{:,.0f}")
    row("growth of memory by these lines", "grown_mib", own, pypi["grown_mib"], "{:.0f} MiB")
    delays = [before, after]
    row("median delay from print to Dagster", "delay", delays, pypi_delay["delay"], "{:.3f} s")
    row("a script that prints nothing", "nothing", delays, pypi_delay["nothing"], "{:.1f} s")
    arrived = f"{LINES:,}" if whole["arrived"] else "less"
    rows.append(("lines after which a message arrives", arrived, f"{count:,}", "", ""))
    rows.append(("lines after which no message arrived", "", _listed(lost), "", ""))
    report("pipes", rows)


def _listed(counts: list[int]) -> str:
    return ", ".join(f"{count:,}" for count in counts) or "none"


if __name__ == "__main__":
    main()
