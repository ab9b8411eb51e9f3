"""The IO manager for Ray Data."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import dagster as dg
from pydantic import Field

from dagster_ray import _library
from dagster_ray.dagster_typing import add_output_metadata, takes_mapping
from dagster_ray.datasets.versions import Version, Versions
from dagster_ray.errors import NotFoundError, UnsupportedError
from dagster_ray.instance_policy import check_resource
from dagster_ray.ray_connection import connect, is_connected

if TYPE_CHECKING:
    import ray.data

_library.register()


class RayDataIOManager(dg.ConfigurableIOManager):
    """Stores assets as Parquet files, which Ray's workers write and read in parallel.

    An output is a ``ray.data.Dataset``, or a data frame of pandas or Polars, or a table of PyArrow.
    An input is a ``ray.data.Dataset``. With several partitions it contains the rows of all, unless
    its annotation is a mapping, such as ``dict[str, ray.data.Dataset]``. Metadata of an input with
    ``columns`` selects columns. The materialization has the number of rows and the columns.
    """

    directory: str = Field(
        description="A path that all nodes of the cluster reach, or a URL that fsspec supports."
    )
    address: str | None = Field(
        default=None,
        description="The address for `ray.init`. Default: the cluster of this Ray job, "
        "RAY_ADDRESS, or Ray on this machine.",
    )
    write_options: dict[str, Any] = Field(
        default_factory=dict,
        description="Arguments of `Dataset.write_parquet`, such as `{compression: zstd}`.",
    )

    @cached_property
    def _versions(self) -> Versions:
        return Versions(self.directory)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        check_resource(context, self)

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        if not context.has_asset_key:
            raise UnsupportedError(
                f"output {context.name!r} of {context.step_key} belongs to no asset: "
                "RayDataIOManager stores assets only; use RayIOManager for outputs of ops"
            )
        self._connect()
        partitions = context.asset_partition_keys if context.has_asset_partitions else [None]
        if len(partitions) == 1:
            rows, schema, path = self._write(context, partitions[0], obj)
            shown: dict[str, object] = {"path": path}
        else:
            rows, schema, shown = self._write_partitions(context, partitions, obj)
        of_partitions = "dagster/partition_row_count" if partitions[0] else "dagster/row_count"
        columns = [dg.TableColumn(name, str(kind)) for name, kind in schema]
        shown |= {of_partitions: rows, "dagster/column_schema": dg.TableSchema(columns)}
        add_output_metadata(context, shown)

    def load_input(self, context: dg.InputContext) -> Any:
        self._connect()
        partitions = context.asset_partition_keys if context.has_asset_partitions else [None]
        found = {key: self._current(context, key) for key in partitions}
        columns = (context.definition_metadata or {}).get("columns")
        if context.has_asset_partitions and takes_mapping(context):
            return {key: self._read([version], columns) for key, version in found.items()}
        return self._read(list(found.values()), columns)

    def _connect(self) -> None:
        if not is_connected():
            connect(self.address, ignore_reinit_error=True, log_to_driver=False)

    def _write_partitions(
        self, context: dg.OutputContext, partitions: Sequence[str | None], obj: object
    ) -> tuple[int, list[tuple[str, object]], dict[str, object]]:
        given: Mapping[object, object] = {}
        if isinstance(obj, Mapping):
            given = cast("Mapping[object, object]", obj)
        if set(given) != set(partitions):
            raise UnsupportedError(
                f"{context.asset_key.to_user_string()} has {len(partitions)} partitions in this "
                "run: return a mapping with a dataset for each partition key"
            )
        rows, schema = 0, list[tuple[str, object]]()
        for partition in partitions:
            more, schema, _ = self._write(context, partition, given[partition])
            rows += more
        return rows, schema, {"partitions": len(partitions)}

    def _write(
        self, context: dg.OutputContext, partition: str | None, obj: object
    ) -> tuple[int, list[tuple[str, object]], str]:
        """Writes a version, and returns its number of rows, its columns and its path."""
        from pyarrow import dataset as parquet  # pyright: ignore[reportMissingTypeStubs]

        dataset = _as_dataset(obj)
        files = self._versions.filesystem()
        path = self._versions.begin(list(context.asset_key.path), partition)
        try:
            dataset.write_parquet(path, filesystem=files, **self.write_options)
            rows, schema = 0, list[tuple[str, object]]()
            if self._versions.has_files(path):
                # Reads the ends of the files only.
                written = cast(Any, parquet).dataset(path, filesystem=files, format="parquet")
                rows = int(written.count_rows())
                schema = list(zip(written.schema.names, written.schema.types, strict=True))
        except BaseException:
            self._versions.abandon(path)
            raise
        self._versions.complete(path, rows)
        return rows, schema, path

    def _current(self, context: dg.InputContext, partition: str | None) -> Version:
        asset = list(context.asset_key.path)
        found = self._versions.current(asset, partition)
        if found is None:
            of_partition = "" if partition is None else f", partition {partition}"
            raise NotFoundError(
                f"{self.directory} has no dataset of {context.asset_key.to_user_string()}"
                f"{of_partition}: materialize it"
            )
        return found

    def _read(self, versions: list[Version], columns: object) -> "ray.data.Dataset":
        import ray.data

        data: Any = ray.data
        paths = [version.path for version in versions if version.rows]
        if not paths:
            return data.from_items([])
        options = {"filesystem": self._versions.filesystem(), "columns": columns}
        if "partition_cols" not in self.write_options:
            # Folders such as `year=2026` in the path of the directory are no columns.
            options["partitioning"] = None
        return data.read_parquet(paths, **options)


def _as_dataset(obj: object) -> Any:
    """Returns an output as a dataset."""
    import ray.data

    data: Any = ray.data
    if isinstance(obj, data.Dataset):
        return obj
    module = type(obj).__module__.partition(".")[0]
    table: Any = obj
    if module == "pandas":
        return data.from_pandas(table)
    if module == "polars":
        return data.from_arrow(table.to_arrow())
    if module == "pyarrow":
        return data.from_arrow(table)
    raise UnsupportedError(
        f"an output of type {type(obj).__name__} is no dataset: return a ray.data.Dataset, a data "
        "frame of pandas or Polars, or a table of PyArrow"
    )


__all__ = ["RayDataIOManager"]
