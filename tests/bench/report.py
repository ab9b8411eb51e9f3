"""Prints the table of a benchmark, and writes it into docs/performance.md."""

import os
import platform
import sys
from collections.abc import Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/performance.md"
Rows = Sequence[Sequence[str]]


def report(name: str, rows: Rows, lines: Sequence[str] = ()) -> None:
    """Prints a table, whose first row is its head, and replaces the section of the page."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
    for line in lines:
        sys.stdout.write(line + "\n")
    PAGE.write_text(with_section(PAGE.read_text(), name, _section(rows, lines)))


def with_section(page: str, name: str, section: str) -> str:
    """Returns the page with another text between the markers of a section."""
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->\n"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{PAGE} has no lines {begin.strip()!r} and {end.strip()!r}")
    return f"{before}{begin}{section}{end}{after}"


def _section(rows: Rows, lines: Sequence[str]) -> str:
    head, *body = rows
    table = [head, ["---"] * len(head), *body]
    text = "\n".join(f"| {' | '.join(row)} |" for row in table)
    notes = "".join(f"\n{line}\n" for line in lines)
    return f"{text}\n{notes}\n{machine()}\n"


def machine() -> str:
    """Returns a sentence about when and where a benchmark ran."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{title} {_version(name)}" for title, name in _PACKAGES.items())
    return (
        f"Measured on {date.today()}, on a machine with {os.cpu_count()} cores and "
        f"{memory:.0f} GiB of memory, Linux {platform.release().partition('-')[0]}, "
        f"Python {platform.python_version()}, {versions}."
    )


_PACKAGES = {"Ray": "ray", "Dagster": "dagster"}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
