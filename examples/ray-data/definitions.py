"""Two partitioned assets that are datasets of Ray, and a report on all their partitions."""

from typing import Any

import dagster as dg
from dagster_ray import RayDataIOManager

DAYS = dg.StaticPartitionsDefinition(["2026-11-28", "2026-11-29"])


@dg.asset(partitions_def=DAYS, kinds={"ray", "parquet"})
def orders(context: dg.AssetExecutionContext) -> Any:
    """The orders of a day."""
    import ray.data

    size = 200 if context.partition_key == "2026-11-28" else 300
    # Few rows: one block, and so one worker.
    data = ray.data.range(size, override_num_blocks=1)
    return data.map(lambda row: {"order": row["id"], "price": row["id"] % 7})


@dg.asset(partitions_def=DAYS, kinds={"ray", "parquet"})
def paid(orders: Any) -> Any:
    """The orders of a day that were not free. Ray's workers read and write them in parallel."""
    return orders.filter(lambda row: row["price"] > 0)


@dg.asset(kinds={"ray", "parquet"}, ins={"paid": dg.AssetIn(metadata={"columns": ["price"]})})
def revenue(context: dg.AssetExecutionContext, paid: dict[str, Any]) -> Any:
    """The revenue of each day. The annotation of `paid` asks for a dataset for each partition."""
    import pandas

    days = {day: one.sum("price") for day, one in paid.items()}
    context.log.info(f"the revenue is {days}")
    return pandas.DataFrame({"day": list(days), "revenue": list(days.values())})


defs = dg.Definitions(
    assets=[orders, paid, revenue],
    resources={"io_manager": RayDataIOManager(directory=dg.EnvVar("LAKE"))},
)
