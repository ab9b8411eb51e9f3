"""`RayDataIOManager` with real datasets of Ray: Parquet files, partitions, versions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster_ray import RayDataIOManager
from dagster_ray.errors import NotFoundError, UnsupportedError
from example_commands import run_example
from ray_head import RayHead

DAYS = dg.StaticPartitionsDefinition(["monday", "tuesday/2"])


@pytest.fixture(scope="module")
def _ray(ray_head: RayHead) -> Iterator[None]:
    # Ray reads the variables for its authentication when it is imported.
    import ray

    ray.init(address=ray_head.gcs, log_to_driver=False)
    yield
    ray.shutdown()


pytestmark = pytest.mark.usefixtures("_ray")


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_the_commands_of_the_example(tmp_path: Path, ray_head: RayHead) -> None:
    printed = run_example("ray-data", tmp_path, {"RAY_ADDRESS": ray_head.gcs})
    assert "the revenue is" in printed


@pytest.fixture(params=["path", pytest.param("URL", marks=pytest.mark.nightly)])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> RayDataIOManager:
    """A manager whose directory is a path, or a URL of a file system that is only fsspec's."""
    folder = tmp_path / "year=2026"
    url = f"dir::file://{folder}" if request.param == "URL" else str(folder)
    return RayDataIOManager(directory=url)


def _numbers(count: int, factor: int = 1) -> Any:
    import ray.data

    # Few rows: a worker for each of many blocks would take a minute to start.
    return ray.data.range(count, override_num_blocks=2).map_batches(
        lambda batch: {"id": batch["id"], "value": batch["id"] * factor}
    )


def _run(manager: RayDataIOManager, *assets: Any, **options: Any) -> dg.ExecuteInProcessResult:
    return dg.materialize(list(assets), resources={"io_manager": manager}, **options)


def test_a_dataset_is_stored_as_parquet_and_read_by_the_next_asset(
    manager: RayDataIOManager,
) -> None:
    @dg.asset(key_prefix=["lake", "eu.west"])
    def numbers() -> Any:
        return _numbers(100, factor=2)

    @dg.asset(ins={"numbers": dg.AssetIn(numbers.key, metadata={"columns": ["value"]})})
    def total(numbers: Any) -> Any:
        import pandas

        assert numbers.schema().names == ["value"]
        return pandas.DataFrame({"total": [numbers.sum("value")]})

    result = _run(manager, numbers, total)
    [stored] = result.asset_materializations_for_node(numbers.op.name)
    assert stored.metadata["dagster/row_count"].value == 100
    schema: Any = stored.metadata["dagster/column_schema"].value
    assert [(column.name, column.type) for column in schema.columns] == [
        ("id", "int64"),
        ("value", "int64"),
    ]
    assert "/lake/eu.west/numbers/version@" in str(stored.metadata["path"].value)


@pytest.mark.nightly
def test_partitions_are_read_one_by_one_together_or_as_a_mapping(
    manager: RayDataIOManager,
) -> None:
    @dg.asset(partitions_def=DAYS)
    def daily(context: dg.AssetExecutionContext) -> Any:
        return _numbers(10 if context.partition_key == "monday" else 5)

    @dg.asset(partitions_def=DAYS)
    def same_day(context: dg.AssetExecutionContext, daily: Any) -> Any:
        context.log.info(f"{context.partition_key} has {daily.count()} rows")
        return daily

    @dg.asset
    def week(context: dg.AssetExecutionContext, daily: Any) -> Any:
        return daily

    @dg.asset
    def days(context: dg.AssetExecutionContext, daily: dict[str, Any]) -> Any:
        assert {key: one.count() for key, one in daily.items()} == {"monday": 10, "tuesday/2": 5}
        return daily["monday"]

    for key in DAYS.get_partition_keys():
        _run(manager, daily, same_day, partition_key=key)
    result = _run(manager, week, days, daily, selection=[week, days])
    [stored] = result.asset_materializations_for_node("week")
    assert stored.metadata["dagster/row_count"].value == 15
    [stored] = result.asset_materializations_for_node("days")
    assert stored.metadata["dagster/row_count"].value == 10


def test_a_failed_write_keeps_the_version_before_it(tmp_path: Path) -> None:
    manager = RayDataIOManager(directory=str(tmp_path))

    def broken(batch: dict[str, Any]) -> dict[str, Any]:
        if (batch["id"] > 2).any():
            raise ValueError("a broken row")
        return batch

    def asset(make: Any) -> Any:
        @dg.asset
        def numbers() -> Any:
            return make()

        return numbers

    @dg.asset
    def count(numbers: Any) -> Any:
        return numbers

    _run(manager, asset(lambda: _numbers(3)))
    failed = _run(manager, asset(lambda: _numbers(9).map_batches(broken)), raise_on_error=False)
    assert not failed.success
    result = _run(manager, count, asset(None), selection=[count])
    [stored] = result.asset_materializations_for_node("count")
    assert stored.metadata["dagster/row_count"].value == 3
    assert len(list((tmp_path / "numbers").iterdir())) == 2, "the pointer and one version"

    for factor in (2, 3, 4):
        _run(manager, asset(lambda factor=factor: _numbers(3, factor)))
    names = [path.name for path in (tmp_path / "numbers").iterdir()]
    assert len(names) == 3, "the pointer, the current version and the one before it"


@pytest.mark.nightly
def test_frames_and_an_empty_dataset(tmp_path: Path) -> None:
    import pandas

    manager = RayDataIOManager(directory=str(tmp_path))

    @dg.asset
    def frame() -> Any:
        return pandas.DataFrame({"name": ["a", "b"]})

    @dg.asset
    def empty(frame: Any) -> Any:
        return frame.filter(lambda row: row["name"] == "z")

    @dg.asset
    def after(empty: Any) -> Any:
        assert empty.count() == 0
        return pandas.DataFrame({"seen": [1]})

    result = _run(manager, frame, empty, after)
    [stored] = result.asset_materializations_for_node("empty")
    assert stored.metadata["dagster/row_count"].value == 0


def test_what_cannot_be_stored_or_found_is_named(tmp_path: Path) -> None:
    manager = RayDataIOManager(directory=str(tmp_path))

    @dg.asset
    def text() -> Any:
        return "no dataset"

    @dg.asset
    def after(text: Any) -> Any:
        return text

    with pytest.raises(UnsupportedError, match="of type str is no dataset"):
        _run(manager, text)
    with pytest.raises(NotFoundError, match="no dataset of text: materialize it"):
        _run(manager, after, text, selection=[after])
    assert list(tmp_path.iterdir()) == []
