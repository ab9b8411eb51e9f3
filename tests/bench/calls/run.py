"""Measures how long a call into a component takes, from Python and back.

`python run.py OWN PYPI`: the interpreters of the two environments. Each row is the median of
`TIMES` processes, and each process measures the median of 2,000 calls. The noise is half the
difference between the slowest and the fastest process, relative to the median. PyPI's package has
no components, so only the import can be compared.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from measured_build import announce
from report import report

MEASURE = Path(__file__).with_name("measure.py")
TIMES = int(os.environ.get("TIMES", "7"))
CALLS = 2000
TITLES = {
    "check": "call without work (`launcher.check` of no run)",
    "plan": "`launcher.plan`: checks options, builds the Ray job",
    "describe": "`describe`, with the schemas of all options",
    "json": "for comparison: the arguments of `plan` to JSON and back, in Python",
    "first": "first call in a process",
    "command": "`dagster-ray components`",
    "import": "`import dagster_ray`",
}
GOALS = {"check": "100 µs", "first": "10 ms", "command": "150 ms"}
IMPORT = "import time; t = time.perf_counter(); import dagster_ray; print(time.perf_counter() - t)"


def output(*line: str) -> str:
    return subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True).stdout


def in_process(own: str) -> dict[str, float]:
    return json.loads(output(own, str(MEASURE), str(CALLS)).splitlines()[-1])


def command(own: str) -> float:
    program = str(Path(own).with_name("dagster-ray"))
    before = time.perf_counter()
    output(program, "components")
    return (time.perf_counter() - before) * 1e6


def row(title: str, micros: list[float], goal: str) -> tuple[str, ...]:
    median = statistics.median(micros)
    noise = 50 * (max(micros) - min(micros)) / median
    shown = f"{median:.0f} µs" if median < 1000 else f"{median / 1000:.1f} ms"
    return title, shown, f"± {noise:.0f} %", goal


def main() -> None:
    own, pypi = sys.argv[1:3]
    announce(own)
    found: dict[str, list[float]] = {}
    for _ in range(TIMES):
        found.setdefault("import", []).append(float(output(own, "-c", IMPORT)) * 1e6)
        for name, micros in {**in_process(own), "command": command(own)}.items():
            found.setdefault(name, []).append(micros)
    rows = [("", "median", "noise", "goal")]
    rows += [row(title, found[name], GOALS.get(name, "")) for name, title in TITLES.items()]
    upstream = [float(output(pypi, "-c", IMPORT)) * 1e6 for _ in range(TIMES)]
    rows.append(row("`import dagster_ray`, PyPI", upstream, ""))
    report("calls", rows)


if __name__ == "__main__":
    main()
