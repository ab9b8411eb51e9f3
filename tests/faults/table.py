"""The whole matrix: one cell for each operation and each fault."""

import re
from pathlib import Path

from cells import Cell, Impossible, Key, Run, Shown, Untested
from cells_alike import ALIKE
from cells_data import DATA
from cells_kubernetes import KUBERNETES
from cells_run import RUNS
from cells_shown import SHOWN
from rows_and_columns import FAULTS, OPERATIONS, why_not

ROOT = Path(__file__).parents[2]


def cell(operation: str, fault: str) -> Cell:
    """Returns a cell. A test of its own comes before the test of another cell."""
    key = (operation, fault)
    parts = (RUNS, SHOWN, ALIKE, KUBERNETES, DATA)
    found = next((part[key] for part in parts if key in part), None)
    if found is not None:
        return found
    reason = why_not(operation, fault)
    return Untested() if reason is None else Impossible(reason)


def table() -> dict[Key, Cell]:
    return {(row, column): cell(row, column) for row in OPERATIONS for column in FAULTS}


def evidence(key: Key, found: Cell) -> tuple[str, ...]:
    """Returns the tests that show a cell, as `file::test`."""
    if isinstance(found, Run):
        test = "test_cell_without_ray" if found.ends_ray else "test_cell"
        return (f"tests/faults/test_cells.py::{test}[{'+'.join(key)}]",)
    return found.by if isinstance(found, Shown) else ()


def exists(test: str) -> bool:
    """Returns whether the file of a test defines it."""
    file, _, name = test.partition("::")
    path = ROOT / file
    keyword = "fn" if file.endswith(".rs") else "def"
    function = re.escape(name.partition("[")[0])
    return path.is_file() and bool(re.search(rf"\b{keyword} {function}\(", path.read_text()))
