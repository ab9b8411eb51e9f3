"""Compares the Pipes client with `dagster-ray` of PyPI, in one run.

`python run.py OURS THEIRS`: the interpreters of the two environments. Both are compared on the same
number of lines: the most after which the other package still delivers a message. An attempt in
which it does not is listed, and is part of no other figure. Ours is measured twice: how far the two
are apart is the noise of the machine.
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

MEASURE = Path(__file__).with_name("measure.py")
OTHERS = ("RAY_ADDRESS", "DAGSTER_HOME")
LINES = int(os.environ.get("LINES_OF_OUTPUT", "3000000"))
ATTEMPT_SECONDS = 900

# Measures so many lines. An attempt that fails has not arrived.
Attempt = Callable[[int], dict[str, Any]]


def measured(interpreter: str, name: str, *what: str) -> dict[str, Any]:
    print(f"measuring {name}: {' '.join(what)} …", file=sys.stderr, flush=True)
    environment = {key: value for key, value in os.environ.items() if key not in OTHERS}
    # As a shell finds it: Ray runs the script's `python` from there, too.
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
    """Returns how many lines a message still came behind, what they cost, and where none came."""
    lost: list[int] = []
    while count >= 1000:
        figures = tried(count)
        if figures["arrived"]:
            return count, figures, lost
        lost.append(count)
        count //= 3
    raise SystemExit("no message arrives, whatever is printed before it")


def main() -> None:
    ours, theirs = sys.argv[1:3]
    announce(ours)
    whole = attempt(ours, "ours", LINES)
    count, other, lost = most_lines(lambda count: attempt(theirs, "dagster-ray", count), LINES)
    mine = [measured(ours, "ours", "lines", str(count)) for _ in range(2)]
    before = measured(ours, "ours", "delay")
    other_delay = measured(theirs, "dagster-ray", "delay")
    after = measured(ours, "ours again", "delay")
    rows = [("", "ours", "dagster-ray", "ratio", "noise")]

    def row(title: str, key: str, pair: list[dict[str, Any]], theirs: float, unit: str) -> None:
        low, high = sorted(one[key] for one in pair)
        mean = (low + high) / 2
        noise = f"± {100 * (high - low) / (high + low):.0f} %" if high + low else ""
        ratio = f"{mean / theirs:.2f}" if theirs else ""
        rows.append((title, unit.format(mean), unit.format(theirs), ratio, noise))

    rate = other["lines_per_second"]
    row(f"plain lines per second, of {count:,}", "lines_per_second", mine, rate, "{:,.0f}")
    row("memory grown by these lines", "grown_mib", mine, other["grown_mib"], "{:.0f} MiB")
    delays = [before, after]
    row("median delay from print to Dagster", "delay", delays, other_delay["delay"], "{:.3f} s")
    row("a script that prints nothing", "nothing", delays, other_delay["nothing"], "{:.1f} s")
    arrived = f"{LINES:,}" if whole["arrived"] else "less"
    rows.append(("lines behind which a message arrives", arrived, f"{count:,}", "", ""))
    rows.append(("attempts without the message, in lines", "", _listed(lost), "", ""))
    widths = [max(len(line[column]) for line in rows) for column in range(5)]
    for line in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )


def _listed(counts: list[int]) -> str:
    return ", ".join(f"{count:,}" for count in counts) or "none"


if __name__ == "__main__":
    main()
