"""Measures the run worker of runs with up to 10,000 steps in flight.

`python run.py OWN PYPI`. All steps of a run are Ray jobs on a server that executes nothing. They
wait at the same time, for `HOLD` seconds, and then the server reports their end. Dagster's storage
is SQLite, in memory, and a PostgreSQL server on this machine. `WIDTHS` and `WIDTHS_ON_POSTGRES`
select the numbers of steps. Plots are in docs/plots.
"""

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "dagster"))

import yaml
from measured_build import announce
from postgres import postgres
from report import report

HERE = Path(__file__).parent
OWN, PYPI = sys.argv[1:3]
WIDTHS = [int(one) for one in os.environ.get("WIDTHS", "100,300,1000,3000,10000").split(",")]
ON_POSTGRES = [int(one) for one in os.environ.get("WIDTHS_ON_POSTGRES", "100,1000,3000").split(",")]
HOLD = float(os.environ.get("HOLD", "20"))


def measured(width: int, storage: dict[str, Any], **variables: str) -> dict[str, Any]:
    print(f"measuring {width} steps …", file=sys.stderr, flush=True)
    # A disk would measure its own writes.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as home:
        settings = {"telemetry": {"enabled": False}, **storage}
        Path(home, "dagster.yaml").write_text(yaml.safe_dump(settings))
        environment = {**os.environ, **variables, "DAGSTER_HOME": home, "WIDTH": str(width)}
        process = subprocess.Popen(
            [OWN, str(HERE / "server.py"), str(width), str(HOLD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert process.stdin and process.stdout
        url = process.stdout.readline().strip()
        done = subprocess.run(
            [OWN, str(HERE / "measure.py")],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
            timeout=3600,
            env={**environment, "RAY_API_SERVER_ADDRESS": url, "PYTHONWARNINGS": "ignore"},
        )
        with urllib.request.urlopen(f"{url}/measured") as answer:
            served = json.load(answer)
        process.stdin.close()
        process.wait(30)
    return {**json.loads(done.stdout.splitlines()[-1]), **served}


def plotted(points: list[dict[str, float]]) -> list[str]:
    """Draws the plots, and returns lines of Markdown that show them."""
    drawn = subprocess.run(
        [PYPI, str(HERE.parent / "plots.py")],
        input=json.dumps(points),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return drawn.stdout.splitlines()


def row(title: str, width: int, one: dict[str, Any]) -> tuple[str, ...]:
    return (
        title,
        f"{one['in_flight'] - one['began']:.1f} s",
        f"{one['cpu'] / width * 1e3:.1f} ms",
        f"{one['peak']:.0f} MiB",
        f"{sum(one['requests'].values()):,}",
        f"{one['connections']}",
        f"{one['ended_at'] - one['ended']:.2f} s",
    )


def main() -> None:
    announce(OWN)
    head = ("steps", "all in flight after", "CPU a step", "peak memory", "requests", "connections")
    rows = [(*head, "last end to the run's end")]
    found: list[dict[str, float]] = []
    for width in WIDTHS:
        one = measured(width, {})
        rows.append(row(f"{width:,}", width, one))
        found.append(
            {
                "steps": width,
                "seconds": one["in_flight"] - one["began"],
                "memory": one["peak"],
                "requests": sum(one["requests"].values()),
                "cpu": one["cpu"] / width * 1e3,
            }
        )
    with postgres() as server:
        variable = "DAGSTER_RAY_BENCH_PG_PASSWORD"
        storage = {"storage": server.storage(variable)}
        for width in ON_POSTGRES:
            one = measured(width, storage, **{variable: server.password})
            rows.append(row(f"{width:,} on PostgreSQL", width, one))
    report("scale", rows, plotted(found))


if __name__ == "__main__":
    main()
