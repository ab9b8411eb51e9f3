"""The IO manager that keeps values in Ray, or wherever its component keeps them."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_origin

import dagster as dg
from pydantic import Field, PrivateAttr

from dagster_ray import simulation
from dagster_ray.backend import narrowing
from dagster_ray.errors import DagsterRayError, SerializationError
from dagster_ray.ray_connection import connect
from dagster_ray.values.directory_store import DirectoryStore
from dagster_ray.values.entries import Store
from dagster_ray.values.frames import Frames, pack, unpack
from dagster_ray.values.keeper import Keeper, Occasion
from dagster_ray.values.ray_store import NAMESPACE, REGISTRY, RayStore

# The names under which the component stands that needs Ray.
_IN_RAY = (None, "object-store")
_IN_FILES = "files"
_FOLDER = "dagster-ray-values"
# How often a process looks for values whose run has ended.
_TIDY_SECONDS = 300.0
_ENDED_WELL = {dg.DagsterRunStatus.SUCCESS}
_ENDED_BADLY = {dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}

DAGSTER_RAY_NAMESPACE = NAMESPACE
DAGSTER_RAY_OBJECT_MAP_NAME = REGISTRY


class RayIOManager(dg.ConfigurableIOManager):
    """Keeps outputs in Ray's object store, where steps on Ray read them without a copy.

    Loaded arrays share memory with the store, and are read-only. Values that are not assets' go
    with their run; assets' values go by age. See ``backend_config`` for how long.
    """

    address: str | None = Field(
        default=None,
        description="Where Ray is, as `ray.init` takes it. Unset: the cluster of this Ray job, "
        "RAY_ADDRESS, or Ray on this machine.",
    )
    backend: str | None = Field(
        default=None,
        description="The component that keeps the values: `object-store` (where nothing is said), "
        "`files`, or the path of a component file.",
    )
    backend_config: dict[str, Any] = Field(
        default_factory=dict,
        description="The component's own options, such as `asset_value_seconds`, "
        "`run_value_seconds`, `failed_run_seconds`, `overwrite`.",
    )
    backend_grants: dict[str, Any] | None = Field(
        default=None,
        description="What the component may do at the most: `{grants: {…}, limits: {…}}` in the "
        "form of its manifest, which it can only narrow.",
    )
    backend_sha256: str | None = Field(
        default=None, description="The sha256 that the component's file must have."
    )
    directory: str | None = Field(
        default=None,
        description="What a component that keeps files may use: a path, or an URL that fsspec "
        f"knows. Unset: `{_FOLDER}` in the storage directory of the Dagster instance.",
    )

    _keeper: Keeper | None = PrivateAttr(default=None)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)
    _tidy: Occasion = PrivateAttr(default_factory=lambda: Occasion(_TIDY_SECONDS))

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        keeper = self._open(context)
        partitions = context.asset_partition_keys if context.has_asset_partitions else [None]
        if len(partitions) == 1:
            stored = keeper.save(_address(context, partitions[0]), _packed(context, obj))
            context.add_output_metadata(_shown(stored))
        else:
            self._keep_partitions(context, keeper, partitions, obj)
        if self._tidy.comes():
            self._remove_ended(context, keeper)

    def load_input(self, context: dg.InputContext) -> Any:
        keeper = self._open(context)
        if not context.has_asset_partitions:
            return _unpacked(context, keeper.load(_address(_source(context), None)))
        partitions = context.asset_partition_keys
        source = _source(context)
        if len(partitions) == 1 and not (_takes_mapping(context) and _may_be_many(context)):
            return _unpacked(context, keeper.load(_address(source, partitions[0])))
        allowed = bool((context.definition_metadata or {}).get("allow_missing_partitions"))
        more = {"allow_missing_partitions": True} if allowed else {}
        loaded = keeper.load_many([_address(source, key) for key in partitions], **more)
        return {name: _unpacked(context, frames) for name, frames in loaded}

    def delete_values_of_run(self, run_id: str) -> int:
        """Removes what a run's outputs left that are not assets, and says how many that were."""
        return self._open(None).delete(runs=[run_id])

    def _open(self, context: dg.OutputContext | dg.InputContext | None) -> Keeper:
        with self._lock:
            if self._keeper is None:
                backend, options, directory = self._place(context)
                ray_store = RayStore(self._connect)
                stores: dict[str, Store] = {
                    "ray": ray_store,
                    "directory": DirectoryStore(directory),
                }
                # What is said of another component is not meant for the one that takes its place.
                elsewhere = simulation.directory() is not None
                narrowed = (
                    narrowing(None, None)
                    if elsewhere
                    else narrowing(self.backend_grants, self.backend_sha256)
                )
                self._keeper = Keeper(backend, options, stores, narrowed)
                if backend in _IN_RAY:
                    # In the step's own thread: Ray wants to handle signals where it connects.
                    ray_store.connect()
            return self._keeper

    def _place(
        self, context: dg.OutputContext | dg.InputContext | None
    ) -> tuple[str | None, dict[str, Any], str]:
        """The component, its options, and the directory of one that keeps files."""
        simulated = simulation.directory()
        if simulated is None:
            directory = self.directory or _default_directory(context)
            return self.backend, self.backend_config, directory
        # The options of a component of the user's own mean nothing to this one.
        ours = self.backend in (*_IN_RAY, _IN_FILES)
        options = self.backend_config if ours else {}
        return _IN_FILES, options, str(Path(simulated, "values"))

    def _connect(self) -> None:
        import ray

        if not ray.is_initialized():
            connect(self.address, ignore_reinit_error=True, log_to_driver=False)

    def _keep_partitions(
        self, context: dg.OutputContext, keeper: Keeper, partitions: Sequence[Any], obj: Any
    ) -> None:
        if not isinstance(obj, Mapping) or set(obj) != set(partitions):
            raise DagsterRayError(
                f"{_named(context)} is made for {len(partitions)} partitions at once: return a "
                f"mapping with a value for each of {', '.join(partitions[:5])}"
                f"{', …' if len(partitions) > 5 else ''}, got {type(obj).__name__}"
            )
        size = 0
        for key in partitions:
            stored = keeper.save(_address(context, key), _packed(context, obj[key]))
            size += stored["size"] or 0
        context.add_output_metadata(
            {"dagster-ray/partitions": len(partitions), "dagster-ray/size": size}
        )

    def _remove_ended(self, context: dg.OutputContext, keeper: Keeper) -> None:
        """Values go when their run has ended; a step that stores one looks for those that have."""
        try:
            instance = context.step_context.instance
        except dg.DagsterInvariantViolationError:
            return
        try:
            kept = {value["run_id"] for value in keeper.find(runs=[])} - {None}
            removed = keeper.delete(expired=_lives(instance, kept)) if kept else 0
        except DagsterRayError as error:
            context.log.warning(f"Values of ended runs could not be removed: {error}")
            return
        if removed:
            context.log.debug(f"Removed {removed} values of runs that have ended.")


def _lives(instance: dg.DagsterInstance, run_ids: set[str]) -> list[dict[str, Any]]:
    """What Dagster knows of runs; those that it does not know are left out."""
    records = instance.get_run_records(dg.RunsFilter(run_ids=sorted(run_ids)))
    lives = []
    for record in records:
        status = record.dagster_run.status
        state = (
            "succeeded" if status in _ENDED_WELL else "failed" if status in _ENDED_BADLY else "live"
        )
        ended = None if record.end_time is None else int(record.end_time)
        lives.append({"run_id": record.dagster_run.run_id, "state": state, "ended_at": ended})
    return lives


def _default_directory(context: dg.OutputContext | dg.InputContext | None) -> str:
    if context is not None:
        try:
            return str(Path(context.step_context.instance.storage_directory(), _FOLDER))
        except dg.DagsterInvariantViolationError:
            pass
    return str(Path.cwd() / _FOLDER)


def _source(context: dg.InputContext) -> Any:
    """Where an input comes from: the output that made it, or the asset that it names."""
    return context.upstream_output or context


def _address(context: Any, partition: str | None) -> dict[str, Any]:
    upstream = context.upstream_output if isinstance(context, dg.InputContext) else context
    return {
        "asset": list(context.asset_key.path) if context.has_asset_key else None,
        "partition": partition,
        "run_id": _or_empty(upstream, "run_id"),
        "step_key": _or_empty(upstream, "step_key"),
        "output_name": _or_empty(upstream, "name"),
        "mapping_key": getattr(upstream, "mapping_key", None),
    }


def _or_empty(context: Any, name: str) -> str:
    """A property of a context, which raises where the context belongs to no run."""
    try:
        return getattr(context, name) or ""
    except (dg.DagsterInvariantViolationError, AttributeError):
        return ""


def _named(context: dg.OutputContext | dg.InputContext) -> str:
    if context.has_asset_key:
        return f"asset {context.asset_key.to_user_string()}"
    return f"output {context.name} of step {_or_empty(context, 'step_key')}"


def _packed(context: dg.OutputContext, obj: Any) -> Frames:
    try:
        return pack(obj)
    except Exception as error:
        raise SerializationError(
            f"{_named(context)}: a value of type {type(obj).__name__} cannot be pickled: {error}. "
            "Return something that can be, such as the path or the parameters to make it again, "
            "or give the asset another IO manager"
        ) from error


def _unpacked(context: dg.InputContext, frames: Frames) -> Any:
    try:
        return unpack(frames)
    except Exception as error:
        raise SerializationError(
            f"input {context.name}: the value of type {frames.type_name} is there and cannot be "
            f"unpickled: {type(error).__name__}: {error}. Its class must be importable in this "
            "step as it was in the step that stored it"
        ) from error


def _shown(stored: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a stored value, for people who look at Dagster."""
    shown: dict[str, Any] = {
        f"dagster-ray/{name}": value for name, value in stored["metadata"].items()
    }
    until = shown.pop("dagster-ray/kept until", None)
    if until is not None:
        shown["dagster-ray/kept until"] = dg.MetadataValue.timestamp(float(until))
    if stored["size"] is not None:
        shown["dagster-ray/size"] = stored["size"]
    return shown


def _takes_mapping(context: dg.InputContext) -> bool:
    annotation = context.dagster_type.typing_type
    cls = get_origin(annotation) or annotation
    return isinstance(cls, type) and issubclass(cls, Mapping)


def _may_be_many(context: dg.InputContext) -> bool:
    """Whether one partition is there by chance: the mapping between the partitions of both sides
    is not one to one, so that the input has to take a mapping."""
    step = context.step_context
    if not context.has_partition_key:
        return True
    layer = step.job_def.asset_layer
    assets = layer.get_assets_def_for_node(step.node_handle)
    mapping = assets.get_partition_mapping_for_dep(context.asset_key) if assets else None
    return mapping is not None and not isinstance(mapping, dg.IdentityPartitionMapping)


__all__ = ["DAGSTER_RAY_NAMESPACE", "DAGSTER_RAY_OBJECT_MAP_NAME", "RayIOManager"]
