"""The IO manager that stores values through a component, by default in Ray's object store."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import dagster as dg
from pydantic import Field, PrivateAttr

from dagster_ray import _library, ray_access
from dagster_ray.component_files import restriction_arguments
from dagster_ray.configs import described
from dagster_ray.contract import Address, Stored
from dagster_ray.dagster_typing import add_output_metadata, takes_mapping
from dagster_ray.deployment import deployment_id
from dagster_ray.errors import DagsterRayError, SerializationError
from dagster_ray.instance_policy import check_code, check_resource
from dagster_ray.io.directory_store import DirectoryStore
from dagster_ray.io.entries import Store
from dagster_ray.io.frames import Frames, pack, unpack
from dagster_ray.io.integrity import operator_keys
from dagster_ray.io.ray_store import RayStore
from dagster_ray.io.value_actors import NAMESPACE, REGISTRY
from dagster_ray.io.value_client import Throttle, ValueClient
from dagster_ray.ray_access import ValueBackend
from dagster_ray.ray_connection import is_connected
from dagster_ray.run_life import run_lives

_library.register()

_FOLDER = "dagster-ray-values"
_EXECUTOR_MODULE = "dagster_ray.executor.executor"
# How often a process removes values of ended runs.
_TIDY_SECONDS = 300.0

# The fields that the instance's policy may restrict.
_CHOSEN = {"address", "backend", "backend_grants", "backend_sha256", "directory"}

DAGSTER_RAY_NAMESPACE = NAMESPACE
DAGSTER_RAY_OBJECT_MAP_NAME = REGISTRY


class RayIOManager(dg.ConfigurableIOManager):
    """Stores outputs in Ray's object store, from which steps on Ray read them without a copy.

    Loaded arrays share memory with the store and are read-only. Values of ops are removed with
    their run, values of assets by age. ``backend_config`` sets the retention times.
    """

    address: str | None = Field(
        default=None,
        description="The address for `ray.init`. Default: the cluster of this Ray job, "
        "RAY_ADDRESS, or Ray on this machine.",
    )
    backend: str | None = Field(
        default=None,
        description="The component that stores the values: `object-store` (the default), `files`, "
        "or the path of a component file.",
    )
    backend_config: dict[str, Any] = Field(
        default_factory=dict,
        description="The component's options, such as `asset_value_seconds`, "
        "`run_value_seconds`, `failed_run_seconds`, `overwrite`.",
    )
    backend_grants: dict[str, Any] | None = Field(
        default=None, description=described("backend_grants")
    )
    backend_sha256: str | None = Field(default=None, description=described("backend_sha256"))
    directory: str | None = Field(
        default=None,
        description="The directory for a component that stores files: a path, or a URL that fsspec "
        f"supports. Default: `{_FOLDER}` in the storage directory of the Dagster instance.",
    )

    _client: ValueClient | None = PrivateAttr(default=None)
    _instance: dg.DagsterInstance | None = PrivateAttr(default=None)
    # Whether Dagster has initialized the resource, which checks who chose its fields.
    _is_checked: bool = PrivateAttr(default=False)
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)
    _tidy: Throttle = PrivateAttr(default_factory=lambda: Throttle(_TIDY_SECONDS))

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        check_resource(context, self)
        self._is_checked = True
        # A context of a value that is loaded outside of a step has no instance.
        self._instance = context.instance

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        client = self._open(context)
        partitions = context.asset_partition_keys if context.has_asset_partitions else None
        if partitions is None or len(partitions) == 1:
            partition = partitions[0] if partitions else None
            stored = client.save(_address(context, partition), _packed(context, obj))
            add_output_metadata(context, _shown(stored))
        else:
            self._save_partitions(context, client, partitions, obj)
        if not _worker_removes_ended(context) and self._tidy.is_due():
            self._remove_ended(context)

    def load_input(self, context: dg.InputContext) -> Any:
        client = self._open(context)
        if not context.has_asset_partitions:
            return _unpacked(context, client.load(_address(_source(context), None)))
        partitions = context.asset_partition_keys
        source = _source(context)
        if len(partitions) == 1 and not (takes_mapping(context) and _may_be_many(context)):
            return _unpacked(context, client.load(_address(source, partitions[0])))
        allowed = bool((context.definition_metadata or {}).get("allow_missing_partitions"))
        more = {"allow_missing_partitions": True} if allowed else {}
        loaded = client.load_many([_address(source, key) for key in partitions], **more)
        return {name: _unpacked(context, frames) for name, frames in loaded}

    def delete_values_of_run(self, run_id: str, instance: dg.DagsterInstance | None = None) -> int:
        """Removes a run's values that do not belong to assets, and returns their number.

        `instance` is the Dagster instance of the run.
        """
        return self._open(None, instance).delete({"runs": [run_id]})

    def remove_values_of_ended_runs(self, instance: dg.DagsterInstance) -> int:
        """Removes values of runs that have ended, by the lifetime rules, and returns their number.

        Lists all values that do not belong to assets.
        """
        client = self._open(None, instance)
        found = {value["run_id"] for value in client.find({"runs": []})}
        run_ids = {run_id for run_id in found if run_id is not None}
        return client.delete({"expired": run_lives(instance, run_ids)}) if run_ids else 0

    def prepare(self, instance: dg.DagsterInstance) -> bool:
        """Loads the component, and returns whether its next call has to connect to Ray first."""
        client = self._open(None, instance, connects=False)
        return client.is_in_ray and not is_connected()

    def _open(
        self,
        context: dg.OutputContext | dg.InputContext | None,
        instance: dg.DagsterInstance | None = None,
        *,
        connects: bool = True,
    ) -> ValueClient:
        with self._lock:
            if self._client is None:
                used_by = instance or _instance(context) or self._instance
                root = None if used_by is None else used_by.root_directory
                if not self._is_checked:
                    check_code(root, self.model_dump(include=_CHOSEN))
                chosen = ray_access.current().value_backend(self._configured_backend())
                directory = chosen.directory or _default_directory(context)
                ray_store = RayStore(self.address)
                stores: dict[str, Store] = {
                    "ray": ray_store,
                    "directory": DirectoryStore(directory, operator_keys(root)),
                }
                restriction = restriction_arguments(chosen.grants, chosen.sha256, root)
                self._client = ValueClient(
                    chosen.backend,
                    chosen.options,
                    stores,
                    restriction,
                    deployment_id(used_by),
                    chosen.is_in_ray,
                )
                if chosen.is_in_ray and connects:
                    # Connect in the step's thread: `ray.init` installs signal handlers.
                    ray_store.connect()
            return self._client

    def _configured_backend(self) -> ValueBackend:
        return ValueBackend(
            backend=self.backend,
            options=self.backend_config,
            directory=self.directory,
            grants=self.backend_grants,
            sha256=self.backend_sha256,
        )

    def _save_partitions(
        self, context: dg.OutputContext, client: ValueClient, partitions: Sequence[str], obj: object
    ) -> None:
        values = _as_mapping(obj)
        if values is None or set(values) != set(partitions):
            raise DagsterRayError(
                f"{_named(context)} covers {len(partitions)} partitions in one run: return a "
                f"mapping with exactly the keys {', '.join(partitions[:5])}"
                f"{', …' if len(partitions) > 5 else ''}; got {type(obj).__name__}"
            )
        size = 0
        for key in partitions:
            stored = client.save(_address(context, key), _packed(context, values[key]))
            size += stored["size"] or 0
        add_output_metadata(
            context, {"dagster-ray/partitions": len(partitions), "dagster-ray/size": size}
        )

    def _remove_ended(self, context: dg.OutputContext) -> None:
        """Removes values of ended runs. Called at most every `_TIDY_SECONDS` in a process."""
        instance = _instance(context)
        if instance is None:
            return
        try:
            removed = self.remove_values_of_ended_runs(instance)
        except DagsterRayError as error:
            context.log.warning(f"Values of ended runs could not be removed: {error}")
            return
        if removed:
            context.log.debug(f"Removed {removed} values of runs that have ended.")


def _worker_removes_ended(context: dg.OutputContext) -> bool:
    """Whether the run's worker removes values of ended runs, once for all processes of steps."""
    try:
        executor: Any = context.step_context.job_def.executor_def
    except dg.DagsterInvariantViolationError:
        return False
    return getattr(executor.executor_creation_fn, "__module__", None) == _EXECUTOR_MODULE


def _instance(context: dg.OutputContext | dg.InputContext | None) -> dg.DagsterInstance | None:
    """Returns the instance of a context, or `None` if it belongs to no step."""
    if context is None:
        return None
    try:
        return context.step_context.instance
    except dg.DagsterInvariantViolationError:
        return None


def _default_directory(context: dg.OutputContext | dg.InputContext | None) -> str:
    instance = _instance(context)
    root = Path.cwd() if instance is None else Path(instance.storage_directory())
    return str(root / _FOLDER)


def _source(context: dg.InputContext) -> dg.OutputContext | dg.InputContext:
    """Returns the source of an input: the upstream output, or the input itself for an asset."""
    return context.upstream_output or context


def _address(context: dg.OutputContext | dg.InputContext, partition: str | None) -> Address:
    upstream = context.upstream_output if isinstance(context, dg.InputContext) else context
    return {
        "asset": list(context.asset_key.path) if context.has_asset_key else None,
        "partition": partition,
        "run_id": _or_empty(upstream, "run_id"),
        "step_key": _or_empty(upstream, "step_key"),
        "output_name": _or_empty(upstream, "name"),
        "mapping_key": getattr(upstream, "mapping_key", None),
    }


def _or_empty(context: object, name: str) -> str:
    """Returns a property of a context, or "" if the context belongs to no run."""
    try:
        return getattr(context, name) or ""
    except (dg.DagsterInvariantViolationError, AttributeError):
        return ""


def _named(context: dg.OutputContext | dg.InputContext) -> str:
    if context.has_asset_key:
        return f"asset {context.asset_key.to_user_string()}"
    return f"output {context.name} of step {_or_empty(context, 'step_key')}"


def _packed(context: dg.OutputContext, obj: object) -> Frames:
    try:
        return pack(obj)
    except Exception as error:
        raise SerializationError(
            f"{_named(context)}: a value of type {type(obj).__name__} cannot be pickled: {error}. "
            "Return a picklable value, such as a path or the parameters to rebuild the value, or "
            "use another IO manager"
        ) from error


def _unpacked(context: dg.InputContext, frames: Frames) -> Any:
    try:
        return unpack(frames)
    except Exception as error:
        raise SerializationError(
            f"input {context.name}: the stored value of type {frames.type_name} cannot be "
            f"unpickled: {type(error).__name__}: {error}. Make its class importable in this step, "
            "as in the step that stored it"
        ) from error


def _shown(stored: Stored) -> dict[str, Any]:
    """Returns the metadata of a stored value that Dagster displays."""
    shown: dict[str, Any] = {
        f"dagster-ray/{name}": value for name, value in stored["metadata"].items()
    }
    until = shown.pop("dagster-ray/kept until", None)
    if until is not None:
        shown["dagster-ray/kept until"] = dg.MetadataValue.timestamp(float(until))
    if stored["size"] is not None:
        shown["dagster-ray/size"] = stored["size"]
    return shown


def _as_mapping(value: object) -> Mapping[object, object] | None:
    return cast("Mapping[object, object]", value) if isinstance(value, Mapping) else None


def _may_be_many(context: dg.InputContext) -> bool:
    """Whether the input can cover several partitions, so that it has to accept a mapping.

    That is so unless the upstream and downstream partitions map one to one.
    """
    step = context.step_context
    if not context.has_partition_key:
        return True
    layer = step.job_def.asset_layer
    assets = layer.get_assets_def_for_node(step.node_handle)
    mapping = assets.get_partition_mapping_for_dep(context.asset_key) if assets else None
    return mapping is not None and not isinstance(mapping, dg.IdentityPartitionMapping)


__all__ = ["DAGSTER_RAY_NAMESPACE", "DAGSTER_RAY_OBJECT_MAP_NAME", "RayIOManager"]
