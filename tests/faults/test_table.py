"""The matrix is complete, and its page shows the same. Needs no Ray."""

import page
import pytest
from cells import Run, Shown, Untested
from cells_alike import ALIKE
from cells_data import DATA
from cells_kubernetes import KUBERNETES
from cells_run import RUNS
from cells_shown import SHOWN
from rows_and_columns import FAULTS, OPERATIONS, why_not
from table import evidence, exists, table

pytestmark = pytest.mark.quick


def test_each_cell_is_in_the_matrix_and_has_one_source() -> None:
    keys = [*RUNS, *SHOWN, *ALIKE, *KUBERNETES, *DATA]
    assert not [key for key in keys if key[0] not in OPERATIONS or key[1] not in FAULTS]
    assert not set(RUNS) & set(SHOWN)


def test_each_cell_has_a_test_or_a_reason() -> None:
    assert not [key for key, cell in table().items() if isinstance(cell, Untested)]


def test_no_test_is_named_for_a_fault_that_cannot_happen() -> None:
    shown = [key for key, cell in table().items() if isinstance(cell, Run | Shown)]
    assert not [key for key in shown if why_not(*key) is not None]


def test_the_tests_of_all_cells_exist() -> None:
    named = {test for key, cell in table().items() for test in evidence(key, cell)}
    assert not [test for test in sorted(named) if not exists(test)]


def test_the_page_shows_the_matrix() -> None:
    text = page.PAGE.read_text()
    missing = [line for line in page.statements() if line not in text]
    assert not missing, f"run `cargo xtask faults` to write {page.PAGE.name}: {missing[:3]}"
