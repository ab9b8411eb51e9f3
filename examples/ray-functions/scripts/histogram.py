"""Counts numbers by their last digit, and reports the counts to Dagster."""

from dagster_pipes import open_dagster_pipes

with open_dagster_pipes() as pipes:
    counts = [0] * 10
    for number in range(pipes.get_extra("below")):
        counts[number % 10] += 1
    pipes.log.info(f"each digit ends {max(counts)} numbers")
    pipes.report_asset_materialization(metadata={"largest": max(counts)})
