"""Ray Data in Dagster: assets that are datasets of Parquet files."""

from dagster_ray.datasets.io_manager import RayDataIOManager

__all__ = ["RayDataIOManager"]
