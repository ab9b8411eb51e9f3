"""Writes docs/reliability.md from the matrix and the results of tests.

    python page.py RESULTS...

Each argument is a JUnit file of pytest, a log of `cargo test`, or the JSON file of a soak. A later
file overrides an earlier one.
"""

import json
import os
import platform
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cells import Cell, Impossible, Key, Run, Shown, Untested
from rows_and_columns import FAULTS, OPERATIONS
from table import ROOT, evidence, table

PAGE = ROOT / "docs/reliability.md"
_HEAD = """# Reliability

What happens when something fails. `cargo xtask faults` writes this page from the results of tests
on a real Ray with a real Dagster deployment; do not edit it. How the tests work is in
[tests/faults](../tests/faults/README.md).

What holds in every cell that a test of `tests/faults` shows:

- A run or step ends in the state that really happened: a run is successful if and only if its op
  ended.
- There are never two workers for one attempt, and never two workers of one run or step at a time.
- Within 30 s of the end of a run there is no unfinished Ray job, no process, no listening port and
  no temporary file of it.
"""
_SIGNS = {
    "passed": "✓",
    "failed": "✗",
    "unknown": "?",
    "impossible": "-",
    "untested": "·",
}
_WORDS = {
    "passed": "passed",
    "failed": "**failed**",
    "unknown": "not run for this page",
}

Results = dict[str, str]


def read(files: list[Path]) -> Results:
    """Returns the outcome of each test by `file::test` without the folder, of Rust by function."""
    results: Results = {}
    for file in files:
        if file.suffix == ".log":
            for name, word in re.findall(
                r"^test (\S+) \.\.\. (ok|FAILED)$", file.read_text(), re.MULTILINE
            ):
                results[name.rpartition("::")[2]] = "passed" if word == "ok" else "failed"
            continue
        for case in ElementTree.parse(file).getroot().iter("testcase"):
            module = (case.get("classname") or "").rpartition(".")[2]
            name = f"{module}.py::{case.get('name')}"
            if case.find("skipped") is None:
                is_bad = case.find("failure") is not None or case.find("error") is not None
                results[name] = "failed" if is_bad else "passed"
    return results


def _outcome(key: Key, cell: Cell, results: Results) -> str:
    if isinstance(cell, Impossible):
        return "impossible"
    if not isinstance(cell, Run | Shown):
        return "untested"
    outcomes = {_of_test(test, results) for test in evidence(key, cell)}
    return next(word for word in ("failed", "unknown", "passed") if word in outcomes)


def _of_test(test: str, results: Results) -> str:
    if ".rs::" in test:
        return results.get(test.rpartition("::")[2], "unknown")
    name = test.rpartition("/")[2]
    # A parametrized test is passed if all of its cases are.
    cases = [word for case, word in results.items() if case == name or case.startswith(f"{name}[")]
    return next((word for word in ("failed", "passed") if word in cases), "unknown")


def _name(test: str) -> str:
    """Returns the name of a test without its folder, unless several folders have such a file."""
    return test if ".rs::" in test else test.rpartition("/")[2]


def _shown(key: Key, cell: Run | Shown) -> str:
    """Returns the part of a table row that does not depend on results."""
    tests = ", ".join(f"`{_name(test)}`" for test in evidence(key, cell))
    return f"| {FAULTS[key[1]].title} | {cell.holds} | {tests} |"


def _others(row: str) -> list[str]:
    """Returns the lines about the faults that cannot happen, and about those not tested yet."""
    cells = {column: cell for (operation, column), cell in table().items() if operation == row}
    reasons: dict[str, list[str]] = {}
    for column, cell in cells.items():
        if isinstance(cell, Impossible):
            reasons.setdefault(cell.why, []).append(FAULTS[column].title)
    untested = [
        FAULTS[column].title for column, cell in cells.items() if isinstance(cell, Untested)
    ]
    lines = [f"- Cannot happen: {'; '.join(titles)}. {why}" for why, titles in reasons.items()]
    return [*lines, f"- Not tested yet: {'; '.join(untested) or 'nothing'}."]


def statements() -> list[str]:
    """Returns the lines that the page must have, without their results."""
    shown = [_shown(key, cell) for key, cell in table().items() if isinstance(cell, Run | Shown)]
    return [*shown, *(line for row in OPERATIONS for line in _others(row))]


def _overview(results: Results) -> list[str]:
    cells = table()
    lines = [
        "## Overview",
        "",
        "✓ a test passed, ✗ it does not hold, ? the test was not run for this page, "
        "- it cannot happen, · not tested yet.",
        "",
        *(f"{number}. {fault.title}" for number, fault in enumerate(FAULTS.values(), 1)),
        "",
        f"| operation | {' | '.join(str(number) for number, _ in enumerate(FAULTS, 1))} |",
        f"|---{'|---' * len(FAULTS)}|",
    ]
    for row, operation in OPERATIONS.items():
        signs = [_SIGNS[_outcome((row, column), cells[row, column], results)] for column in FAULTS]
        lines.append(f"| {operation.title} | {' | '.join(signs)} |")
    count = Counter(_outcome(key, cell, results) for key, cell in cells.items())
    lines += [
        "",
        f"Of {len(cells)} cells, {count['passed']} are shown by a test that passed, "
        f"{count['failed']} do not hold, {count['unknown']} have a test that was "
        f"not run for this page, {count['impossible']} cannot happen, and {count['untested']} are "
        "not tested yet.",
    ]
    return lines


def _operation(row: str, results: Results) -> list[str]:
    cells = table()
    lines = ["", f"## {OPERATIONS[row].title[0].upper()}{OPERATIONS[row].title[1:]}", ""]
    lines += ["| fault | what holds | shown by | result |", "|---|---|---|---|"]
    for column in FAULTS:
        key = (row, column)
        cell = cells[key]
        if isinstance(cell, Run | Shown):
            lines.append(f"{_shown(key, cell)} {_WORDS[_outcome(key, cell, results)]} |")
    return [*lines, "", *_others(row)]


def _soak(soak: dict[str, Any] | None) -> list[str]:
    if soak is None:
        return []
    states = ", ".join(f"{count} {state}" for state, count in soak["states"].items())
    actions = ", ".join(f"{count} {action}" for action, count in soak["actions"].items())
    command = f"cargo xtask soak --seed {soak['seed']} --minutes {soak['minutes']:g}"
    return [
        "",
        "## Soak",
        "",
        f"Random launches, cancellations, kills, restarts and network faults, on {soak['date']} "
        f"(`{command}`):",
        "",
        f"- {soak['runs']} runs: {states}",
        f"- actions: {actions}",
        f"- wrong states: {len(soak['wrong'])}; leftovers: {len(soak['left'])}",
        *(f"  - {problem}" for problem in [*soak["wrong"], *soak["left"]]),
        f"- memory of a daemon process: {soak['memory']}",
    ]


def _conditions() -> list[str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    linux = platform.release().partition("-")[0]
    return [
        "",
        f"Written on {date.today().isoformat()}, on a machine with {os.cpu_count()} cores and "
        f"{memory} GiB of memory, Linux {linux}, Python {platform.python_version()}, "
        f"Ray {version('ray')}, Dagster {version('dagster')}. The backend is `existing` unless the "
        "name of the test says otherwise.",
        "A proxy between Dagster and Ray delays requests and breaks connections, in place of",
        "`tc netem`, which the kernels of many machines lack.",
        "",
    ]


def write(files: list[Path]) -> None:
    results = read([file for file in files if file.suffix in (".xml", ".log")])
    soaks = [file for file in files if file.suffix == ".json"]
    soak = json.loads(soaks[-1].read_text()) if soaks else None
    lines = [*_HEAD.splitlines(), *_conditions(), *_overview(results)]
    for row in OPERATIONS:
        lines += _operation(row, results)
    PAGE.write_text("\n".join([*lines, *_soak(soak)]) + "\n")


if __name__ == "__main__":
    write([Path(argument) for argument in sys.argv[1:]])
