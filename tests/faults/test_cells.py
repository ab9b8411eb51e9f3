"""Each cell of the matrix that the harness runs."""

from collections.abc import Callable

import leaks
import pytest
from cells import Key, Run
from cells_run import RUNS
from lab import Lab


def _parameter(key: Key, cell: Run) -> object:
    marks = [pytest.mark.quick] if cell.quick else []
    return pytest.param(cell, id="+".join(key), marks=marks)


def _parameters(*, ends_ray: bool) -> list[object]:
    return [_parameter(key, cell) for key, cell in RUNS.items() if cell.ends_ray == ends_ray]


@pytest.mark.parametrize("cell", _parameters(ends_ray=False))
def test_cell(cell: Run, labs: Callable[[], Lab]) -> None:
    lab = labs()
    leaks.check(lab, _strike(cell, lab))


@pytest.mark.quick
def test_the_run_that_the_faults_shared_succeeds_with_one_worker(labs: Callable[[], Lab]) -> None:
    lab = labs()
    before = leaks.snapshot(lab)
    run_id = lab.standing_run()
    lab.end_standing_run()
    assert lab.wait_for_end(run_id).value == "SUCCESS"
    assert len(lab.workers(run_id, of_step=False, alive=False)) == 1
    assert len(lab.workers(run_id, of_step=True, alive=False)) == 1
    _check_run(lab, run_id, "SUCCESS")
    leaks.check(lab, before)


# Each of these faults needs another Ray afterwards.
@pytest.mark.parametrize("cell", _parameters(ends_ray=True))
def test_cell_without_ray(cell: Run, labs: Callable[[], Lab]) -> None:
    lab = labs()
    leaks.check_processes(lab, _strike(cell, lab))


def _strike(cell: Run, lab: Lab) -> leaks.Snapshot:
    """Performs the operation and the fault, and returns what existed before."""
    before = leaks.snapshot(lab)
    operation = cell.operation(lab)
    try:
        operation.prepare()
        if not operation.ends:
            before = leaks.snapshot(lab)
        with cell.strike(lab, operation):
            operation.act()
        end = operation.finish()
        assert end in cell.ends
        if operation.run_id:
            _check_run(lab, operation.run_id, end)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{operation.messages_for_the_user()}") from error
    return before


def _check_run(lab: Lab, run_id: str, end: str) -> None:
    """The state is what happened, and nothing ran twice."""
    begun, ended = lab.bodies(run_id), lab.bodies(run_id, "end")
    assert begun <= 1, f"the op began {begun} times"
    if end != "STARTED":
        is_successful = end.startswith("SUCCESS")
        assert (ended == 1) == is_successful, f"the run is {end}; the op ended {ended} times"
    beside = [record for record in lab.records(run_id) if record.get("beside")]
    assert not beside, f"two workers at a time: {beside}"
    names = [record["job"] for record in lab.records(run_id) if record["event"] == "worker"]
    assert len(names) == len(set(names)), f"two workers for one attempt: {names}"
