"""Draws the plots of the benchmark of steps in flight, as SVG files in docs/plots.

`python plots.py` reads the figures of each number of steps from standard input, as JSON, and prints
lines of Markdown that show the plots. It needs matplotlib.
"""

import json
import sys
from pathlib import Path

import matplotlib
from matplotlib import pyplot

FOLDER = Path(__file__).parents[2] / "docs/plots"
AXES = {
    "seconds": "seconds until all steps are in flight",
    "cpu": "CPU of the run worker a step, ms",
    "memory": "peak memory of the run worker, MiB",
    "requests": "requests to Ray",
}


def main() -> None:
    points = json.load(sys.stdin)
    matplotlib.use("svg")
    # The same figures give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "dagster-ray"
    FOLDER.mkdir(exist_ok=True)
    for name, title in AXES.items():
        figure, axes = pyplot.subplots(figsize=(5, 3))
        axes.plot([one["steps"] for one in points], [one[name] for one in points], marker="o")
        axes.set_xscale("log")
        axes.set_xlabel("steps in flight")
        axes.set_ylabel(title)
        axes.set_ylim(bottom=0)
        axes.grid(visible=True, alpha=0.3)
        figure.tight_layout()
        figure.savefig(FOLDER / f"scale-{name}.svg", metadata={"Date": None})
        pyplot.close(figure)
        sys.stdout.write(f"![{title}](plots/scale-{name}.svg)\n")


if __name__ == "__main__":
    main()
