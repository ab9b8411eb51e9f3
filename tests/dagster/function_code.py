"""Functions for Ray. Ray's processes cannot import this module: it is sent as code."""

from typing import Any

import dagster as dg
from dagster_ray import ray_function


class Account:
    def __init__(self, money: int) -> None:
        self.money = money


class Overdrawn(Exception):
    def __init__(self, missing: int) -> None:
        super().__init__(missing)
        self.missing = missing


def _total(numbers: list[int]) -> int:
    return sum(numbers)


@ray_function()
def sums(numbers: list[int]) -> int:
    return _total(numbers)


@ray_function()
def withdraw(account: Account, amount: int) -> Account:
    if amount > account.money:
        raise Overdrawn(amount - account.money)
    return Account(account.money - amount)


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
@ray_function(num_cpus=1)
def model(context: dg.AssetExecutionContext, rows: list[int]) -> dict[str, Any]:
    context.log.info("adding %s numbers", len(rows))
    context.add_output_metadata({"rows": len(rows)})
    return {
        "total": _total(rows),
        "partition": context.partition_key,
        "asset": str(context.asset_key) if isinstance(context.asset_key, str) else "model",
    }
