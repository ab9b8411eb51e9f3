"""Measures launches and health checks against a server that executes nothing.

`python run.py OWN PYPI`: the interpreters of the two environments. Each figure is the median of
`TIMES` processes with a server each. The noise is half the difference between the slowest and the
fastest, relative to the median.
"""

import json
import os
import statistics
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from measured_build import announce
from report import report

HERE = Path(__file__).parent
TIMES = int(os.environ.get("TIMES", "5"))
OWN, PYPI = sys.argv[1:3]
# Title, case, number of steps, latency of the server in ms, jobs that it remembers.
CASES = (
    ("1 launch", "launch", 1, 0, 0),
    ("10 launches at a latency of 100 ms", "launch", 10, 100, 0),
    ("1,000 launches at a latency of 20 ms", "launch", 1_000, 20, 0),
    ("health of 200 steps at a latency of 10 ms", "check", 200, 10, 0),
    ("health of 5 steps, 25,000 jobs remembered", "check", 5, 0, 25_000),
    ("health of 200 steps, 25,000 jobs remembered", "check", 200, 0, 25_000),
)


@contextmanager
def server(latency: int, remembered: int) -> Iterator[str]:
    line = [OWN, str(HERE.parent / "load_server.py"), str(latency), str(remembered)]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(30)


def asked(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/measured") as answer:
        return json.load(answer)


def measured(interpreter: str, script: str, case: str, number: int, url: str) -> dict[str, Any]:
    done = subprocess.run(
        [interpreter, str(HERE / script), case, url, str(number)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=600,
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
    )
    found = asked(url)
    return {**json.loads(done.stdout.splitlines()[-1]), **found}


def cell(found: list[dict[str, Any]]) -> tuple[float, str]:
    seconds = [one["seconds"] for one in found]
    median = statistics.median(seconds)
    noise = 50 * (max(seconds) - min(seconds)) / median
    shown = f"{median * 1e3:.1f} ms" if median < 1 else f"{median:.2f} s"
    return median, f"{shown} ± {noise:.0f} %" if len(found) > 1 else f"{shown}, one run"


def main() -> None:
    announce(OWN)
    rows = [("", "median", "PyPI", "faster", "connections", "latency of the server")]
    for title, case, number, latency, remembered in CASES:
        results: dict[str, list[dict[str, Any]]] = {"own.py": [], "pypi.py": []}
        for _ in range(TIMES):
            for script, interpreter in (("own.py", OWN), ("pypi.py", PYPI)):
                print(f"measuring {title}: {script} …", file=sys.stderr, flush=True)
                with server(latency, remembered) as url:
                    results[script].append(measured(interpreter, script, case, number, url))
        own, own_text = cell(results["own.py"])
        upstream, upstream_text = cell(results["pypi.py"])
        sockets = max(one["connections"] for one in results["own.py"])
        rows.append(
            (
                title,
                own_text,
                upstream_text,
                f"{upstream / own:.1f} x",
                str(sockets),
                f"{latency} ms",
            )
        )
    report("launch", rows)


if __name__ == "__main__":
    main()
