"""Jobs that pass values through a RayIOManager at the location in VALUES_LOCATION."""

import os

import dagster as dg
import numpy as np
from dagster_ray import RayIOManager, ray_executor


class Custom:
    """A class that only this module defines."""

    def __init__(self, number: int) -> None:
        self.number = number


@dg.op
def numbers() -> np.ndarray:
    return np.arange(1_000_000)


@dg.op(out=dg.DynamicOut())
def pieces(numbers: np.ndarray):
    for index, piece in enumerate(np.split(numbers, 4)):
        yield dg.DynamicOutput(piece, mapping_key=f"piece_{index}")


@dg.op
def summed(piece: np.ndarray) -> Custom:
    return Custom(int(piece.sum()))


@dg.op
def total(parts: list) -> int:
    return sum(part.number for part in parts)


@dg.op
def nothing(before: int):
    return None


@dg.op
def check(total: int, nothing) -> None:
    assert total == sum(range(1_000_000))
    assert nothing is None
    if os.environ.get("FAIL"):
        raise dg.Failure("the variable FAIL is set", allow_retries=False)


@dg.graph
def steps() -> None:
    parts = pieces(numbers()).map(summed).collect()
    whole = total(parts)
    check(whole, nothing(whole))


in_ray = steps.to_job(
    name="in_ray",
    executor_def=ray_executor,
    resource_defs={"io_manager": RayIOManager(address=dg.EnvVar("VALUES_LOCATION"))},
)
in_files = steps.to_job(
    name="in_files",
    executor_def=ray_executor,
    resource_defs={
        "io_manager": RayIOManager(backend="files", directory=dg.EnvVar("VALUES_LOCATION"))
    },
)
