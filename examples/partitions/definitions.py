"""Daily and weekly values that the IO manager keeps, one for each partition."""

import dagster as dg
from dagster_ray import RayIOManager

DAYS = dg.DailyPartitionsDefinition("2026-11-28", end_date="2026-11-30")
WEEKS = dg.WeeklyPartitionsDefinition("2026-11-23", day_offset=1)
DAYS_OF_WEEK = dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)
YESTERDAY = dg.TimeWindowPartitionMapping(
    start_offset=-1, end_offset=-1, allow_nonexistent_upstream_partitions=True
)


@dg.asset(partitions_def=DAYS)
def visits(context: dg.AssetExecutionContext) -> int:
    """The visits of a day."""
    return 10 * int(context.partition_key[-2:])


@dg.asset(
    partitions_def=DAYS,
    ins={"yesterday": dg.AssetIn("visits", partition_mapping=YESTERDAY)},
)
def forecast(context: dg.AssetExecutionContext, yesterday: int) -> int:
    """As many visits as on the day before, and a tenth more."""
    expected = yesterday + yesterday // 10
    context.log.info(f"{expected} visits are expected on {context.partition_key}")
    return expected


# The first week has only two days.
@dg.asset(partitions_def=WEEKS, ins={"visits": dg.AssetIn(partition_mapping=DAYS_OF_WEEK)})
def weekly_visits(context: dg.AssetExecutionContext, visits: dict[str, int]) -> int:
    """The visits of a week: the values of its days arrive as a dictionary."""
    total = sum(visits.values())
    context.log.info(f"{total} visits on {len(visits)} days from {context.partition_key}")
    return total


defs = dg.Definitions(
    assets=[visits, forecast, weekly_visits],
    resources={"io_manager": RayIOManager(backend="files", directory=dg.EnvVar("VALUES"))},
)
