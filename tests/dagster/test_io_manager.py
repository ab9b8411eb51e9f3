"""`RayIOManager` with each io backend: the object store and files."""

import contextlib
import functools
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from dagster_ray import RayIOManager
from dagster_ray.contract import Address
from dagster_ray.deployment import deployment_id
from dagster_ray.errors import (
    DagsterRayError,
    InvalidConfigError,
    NotFoundError,
    SerializationError,
)
from dagster_ray.io.frames import unpack
from document_blocks import SEED
from processes import wait_for
from ray_head import RayHead

KEPT = dg.StaticPartitionsDefinition(["a", "b", "c"])
DAYS = dg.DailyPartitionsDefinition(start_date="2026-01-01", end_date="2026-02-01")

Manager = Callable[..., RayIOManager]


@contextlib.contextmanager
def connected() -> Iterator[None]:
    import ray

    try:
        yield
    finally:
        ray.shutdown()


@pytest.fixture(scope="module", params=["object-store", "files"])
def manager(
    request: pytest.FixtureRequest, ray_head: RayHead, tmp_path_factory
) -> Iterator[Manager]:
    """Returns a function that creates IO managers of one backend, which share their values."""
    directory = str(tmp_path_factory.mktemp("values"))

    def make(**more: Any) -> RayIOManager:
        settings = {"backend": request.param, "address": ray_head.gcs, "directory": directory}
        return RayIOManager(**{**settings, **more})

    with connected():
        yield make


@functools.cache
def _instance() -> dg.DagsterInstance:
    """Returns the deployment that these tests share: another one does not find its values."""
    return dg.DagsterInstance.local_temp()


def _materialize(
    manager: RayIOManager, *assets: Any, partition: str | None = None, **more: Any
) -> dg.ExecuteInProcessResult:
    resources = {"io_manager": manager, "ray_io_manager": manager}
    more.setdefault("instance", _instance())
    return dg.materialize(list(assets), resources=resources, partition_key=partition, **more)


def _loaded_downstream(manager: RayIOManager, value: Any) -> Any:
    """Returns a value as a downstream asset loads it."""
    seen = []

    @dg.asset
    def made():
        return value

    @dg.asset
    def taken(made) -> None:
        seen.append(made)

    assert _materialize(manager, made, taken).success
    return seen[0]


@pytest.mark.parametrize("name", ["values", "values_partitioned", "values_mapped"])
def test_the_examples_work_with_each_backend(manager: Manager, name: str) -> None:
    """test_seed_readme.py runs these examples as printed; here each backend runs them."""
    names: dict[str, Any] = {"Dict": dict}
    exec((SEED / f"{name}.py.txt").read_text(), names)
    upstream = names["upstream"]
    downstream = names.get("downstream") or names["downstream_unpartitioned"]
    partitions = getattr(names.get("partitions_def"), "get_partition_keys", lambda: [None])()
    for partition in partitions:
        _materialize(manager(), upstream, partition=partition)
    assets = (upstream.to_source_asset(), downstream)
    for partition in partitions if downstream.partitions_def else [None]:
        assert _materialize(manager(), *assets, partition=partition).success


def test_data_frames_and_arrays_are_loaded_unchanged_and_read_only(manager: Manager) -> None:
    import pandas as pd
    import polars as pl

    frame = pd.DataFrame({"n": range(1000), "s": [str(n) for n in range(1000)]})
    pd.testing.assert_frame_equal(_loaded_downstream(manager(), frame), frame)
    polars = pl.DataFrame({"n": range(1000), "s": [str(n) for n in range(1000)]})
    assert _loaded_downstream(manager(), polars).equals(polars)
    fortran = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    loaded = _loaded_downstream(manager(), {"f": fortran, "every second": np.arange(10)[::2]})
    assert (loaded["f"] == fortran).all() and (loaded["every second"] == np.arange(10)[::2]).all()
    assert not loaded["f"].flags.writeable


def test_none_and_functions_can_be_stored(manager: Manager) -> None:
    assert _loaded_downstream(manager(), None) is None
    base = 40
    assert _loaded_downstream(manager(), lambda more: base + more)(2) == 42


def test_the_output_metadata_has_key_type_size_and_expiry(manager: Manager) -> None:
    @dg.asset(metadata={"size": "the user's own"})
    def shown():
        return np.zeros(1000)

    [event] = _materialize(manager(), shown).get_asset_materialization_events()
    metadata: dict[str, Any] = {
        name: entry.value for name, entry in event.materialization.metadata.items()
    }
    assert metadata["dagster-ray/key"] == f"{deployment_id(_instance())}/asset/shown/="
    assert metadata["dagster-ray/type"] == "numpy.ndarray"
    assert 8000 < metadata["dagster-ray/size"] < 9000
    assert metadata["dagster-ray/kept until"] > time.time()


def test_partition_offsets_and_fan_in_load_mappings(manager: Manager) -> None:
    """A window with a single partition is also loaded as a mapping."""
    seen: dict[str, Any] = {}

    @dg.asset(partitions_def=DAYS)
    def daily(context: dg.AssetExecutionContext) -> str:
        return context.partition_key

    window = dg.TimeWindowPartitionMapping(start_offset=-19, end_offset=0)

    @dg.asset(partitions_def=DAYS, ins={"daily": dg.AssetIn(partition_mapping=window)})
    def rolling(context: dg.AssetExecutionContext, daily: dict[str, str]) -> None:
        seen[context.partition_key] = daily

    @dg.asset(partitions_def=DAYS)
    def same(context: dg.AssetExecutionContext, daily: str) -> None:
        assert daily == context.partition_key

    days = DAYS.get_partition_keys()[:20]
    for day in days:
        _materialize(manager(), daily, partition=day)
    for day in (days[0], days[-1]):
        _materialize(manager(), daily.to_source_asset(), rolling, same, partition=day)
    assert seen[days[0]] == {days[0]: days[0]}
    assert seen[days[-1]] == {day: day for day in days}


def test_two_dimensional_partitions(manager: Manager) -> None:
    both = dg.MultiPartitionsDefinition({"day": DAYS, "kind": KEPT})
    key = dg.MultiPartitionKey({"day": "2026-01-02", "kind": "a"})

    @dg.asset(partitions_def=both)
    def grid(context: dg.AssetExecutionContext) -> dict:
        key = context.partition_key
        assert isinstance(key, dg.MultiPartitionKey)
        return dict(key.keys_by_dimension)

    @dg.asset(partitions_def=both)
    def after(grid: dict) -> None:
        assert grid == {"day": "2026-01-02", "kind": "a"}

    assert _materialize(manager(), grid, after, partition=key).success


def test_the_error_for_a_missing_partition_lists_the_stored_ones(manager: Manager) -> None:
    @dg.asset(partitions_def=KEPT, key=["deep", "source"])
    def source(context: dg.AssetExecutionContext) -> str:
        return context.partition_key

    @dg.asset(ins={"source": dg.AssetIn(["deep", "source"])})
    def whole(source: dict[str, str]) -> None: ...

    @dg.asset(
        ins={"source": dg.AssetIn(["deep", "source"], metadata={"allow_missing_partitions": True})}
    )
    def part(source: dict[str, str]) -> None:
        assert source == {"a": "a", "b": "b"}

    for partition in ("a", "b"):
        _materialize(manager(), source, partition=partition)
    with pytest.raises(NotFoundError) as raised:
        _materialize(manager(), source.to_source_asset(), whole)
    for words in (
        "asset deep/source, partition c",
        "asset/deep/source/=c",
        "these values of this asset: a, b",
    ):
        assert words in str(raised.value)
    assert _materialize(manager(), source.to_source_asset(), part).success


def test_the_error_for_an_unpicklable_value_names_the_asset(manager: Manager) -> None:
    with pytest.raises(SerializationError, match=r"asset made: a value of type lock"):
        _loaded_downstream(manager(), threading.Lock())


def test_the_error_for_an_unknown_option_suggests_the_right_one(manager: Manager) -> None:
    with pytest.raises(InvalidConfigError, match=r"asset_ttl.*asset_value_seconds"):
        _loaded_downstream(manager(backend_config={"asset_ttl": 1}), 1)


def test_a_value_is_overwritten_unless_overwrite_is_false(manager: Manager) -> None:
    assert [_loaded_downstream(manager(), number) for number in (1, 2)] == [1, 2]
    with pytest.raises(DagsterRayError, match=r"there is a value under .*/asset/made/="):
        _loaded_downstream(manager(backend_config={"overwrite": False}), 3)
    assert _loaded_downstream(manager(), 4) == 4


def test_values_expire_after_their_time_or_when_their_run_ends(manager: Manager) -> None:

    @dg.op
    def makes() -> int:
        return 1

    @dg.op
    def takes(number: int) -> None: ...

    @dg.job
    def short():
        takes(makes())

    with dg.DagsterInstance.ephemeral() as instance:
        resources = {"io_manager": manager()}
        first = short.execute_in_process(instance=instance, resources=resources).run_id
        client = manager()._open(None, instance)
        assert [value["run_id"] for value in client.find({"runs": [first]})] == [first]
        # The first step of the next run deletes the values of the ended run.
        second = manager()
        short.execute_in_process(instance=instance, resources={"io_manager": second})
        assert client.find({"runs": [first]}) == []

    # Long enough for the downstream asset to load the value on a busy machine.
    brief = manager(backend_config={"asset_value_seconds": 10})
    assert _loaded_downstream(brief, 1) == 1
    client = manager()._open(None, _instance())
    wait_for("the end of the value's lifetime", lambda: client.find({"asset": ["made"]}) == [])
    with pytest.raises(NotFoundError):
        client.load(
            {
                "asset": ["made"],
                "partition": None,
                "run_id": "",
                "step_key": "",
                "output_name": "result",
                "mapping_key": None,
            }
        )


def test_a_deployment_leaves_the_values_of_another_alone(manager: Manager) -> None:
    @dg.asset
    def shared_name() -> int:
        return 2

    @dg.op
    def makes() -> int:
        return 21

    @dg.op(ins={"start": dg.In(dg.Nothing)})
    def meanwhile() -> None:
        with dg.DagsterInstance.ephemeral() as other:
            # The first output of a process removes the values of ended runs.
            _materialize(manager(), shared_name, instance=other)

    @dg.op(ins={"after": dg.In(dg.Nothing)})
    def takes(number: int) -> int:
        return number

    @dg.job
    def long():
        number = makes()
        takes(number, after=meanwhile(start=number))

    result = long.execute_in_process(instance=_instance(), resources={"io_manager": manager()})
    assert result.output_for_node("takes") == 21

    @dg.asset
    def reader(shared_name: int) -> None: ...

    with pytest.raises(NotFoundError, match="asset shared_name"):
        _materialize(manager(), shared_name.to_source_asset(), reader)


def test_concurrent_writers_of_a_key_leave_one_complete_value(manager: Manager) -> None:
    def write(digit: int) -> None:
        @dg.asset(name="contested")
        def contested():
            return np.full(2_000_000, digit, dtype=np.int8)

        _materialize(manager(), contested)

    address: Address = {
        "asset": ["contested"],
        "partition": None,
        "run_id": "",
        "step_key": "",
        "output_name": "result",
        "mapping_key": None,
    }

    def digits() -> set[int]:
        return set(unpack(manager()._open(None, _instance()).load(address)).tolist())

    write(0)
    threads = [threading.Thread(target=write, args=(digit,)) for digit in range(1, 5)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert len(digits()) == 1
        # A busy loop would keep the writers from the interpreter lock.
        time.sleep(0.05)
    assert digits() <= {1, 2, 3, 4}


@pytest.mark.nightly
def test_a_value_of_one_gibibyte(manager: Manager) -> None:
    """The value is larger than the object store of the tests' Ray."""
    array = np.arange(1 << 27, dtype=np.int64)
    loaded = _loaded_downstream(manager(), array)
    assert loaded.shape == array.shape and (loaded[:: 1 << 12] == array[:: 1 << 12]).all()


def test_spilled_values_are_loaded_completely(manager: Manager) -> None:
    @dg.asset(partitions_def=dg.StaticPartitionsDefinition([str(n) for n in range(16)]))
    def large(context: dg.AssetExecutionContext) -> np.ndarray:
        return np.full(8 << 20, int(context.partition_key), dtype=np.int64)

    for number in range(16):
        _materialize(manager(), large, partition=str(number))

    @dg.asset
    def loads(large: dict[str, np.ndarray]) -> None:
        assert len(large) == 16
        for name, array in large.items():
            assert array.nbytes == 64 << 20 and (array == int(name)).all()

    assert _materialize(manager(), large.to_source_asset(), loads).success


def test_the_default_directory_is_in_the_instances_storage(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:

        @dg.asset
        def stored():
            return 1

        _materialize(RayIOManager(backend="files"), stored, instance=instance)
        [file] = Path(instance.storage_directory(), "dagster-ray-values").rglob("*.value")
        assert file.name == "=.value" and os.access(file, os.R_OK)


def test_an_io_manager_that_is_not_used_any_more_releases_its_component(tmp_path: Path) -> None:
    """A code server makes one for each run."""

    def loaded() -> int:
        gc.collect()
        return Path("/proc/self/maps").read_text().count(".cwasm")

    def materialize() -> None:
        @dg.asset
        def made():
            return 1

        _materialize(RayIOManager(backend="files", directory=str(tmp_path)), made)

    before = loaded()
    for _ in range(3):
        materialize()
    # The components of earlier tests may be released meanwhile.
    assert loaded() <= before
