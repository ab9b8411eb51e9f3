"""The asset that a script materializes as a Ray job."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from typing_extensions import Unpack

from dagster_ray.env_selectors import without_selectors
from dagster_ray.ops.config import RayJobConfig, RayJobOptions
from dagster_ray.ops.job import execute_ray_job

Entrypoint = str | Callable[[dg.AssetExecutionContext], str]


def ray_job_asset(
    entrypoint: Entrypoint,
    specs: str | dg.AssetSpec | Sequence[dg.AssetSpec],
    *,
    check_specs: Sequence[dg.AssetCheckSpec] | None = None,
    name: str | None = None,
    description: str | None = None,
    partitions_def: dg.PartitionsDefinition[Any] | None = None,
    retry_policy: dg.RetryPolicy | None = None,
    op_tags: Mapping[str, Any] | None = None,
    pool: str | None = None,
    **options: Unpack[RayJobOptions],
) -> dg.AssetsDefinition:
    """Returns assets that a script materializes as a Ray job.

    `entrypoint` is a shell command, or a function of the context that returns one: it can name the
    partition. `specs` is the key of an asset, or specs. What the script reports through Dagster
    Pipes becomes metadata and checks. Each asset is materialized when the script succeeds, also
    without a report. The options are those of `ray_job_op`. Raises `InvalidConfigError` for an
    invalid option.
    """
    if not callable(entrypoint):
        # Reports mistakes when the code is loaded. The process may not have the variables.
        _validate(entrypoint, options)
    if isinstance(specs, str):
        specs = [dg.AssetSpec(dg.AssetKey.from_user_string(specs))]
    listed = [specs] if isinstance(specs, dg.AssetSpec) else list(specs)

    @dg.multi_asset(
        name=name or _name(listed),
        description=description,
        specs=listed,
        check_specs=check_specs,
        partitions_def=partitions_def,
        retry_policy=retry_policy,
        op_tags={"dagster/kind/ray": "", **(op_tags or {})},
        pool=pool,
    )
    def script(context: dg.AssetExecutionContext) -> Iterator[Any]:
        command = entrypoint(context) if callable(entrypoint) else entrypoint
        completed: Any = execute_ray_job(context, command, **options)
        yield from completed.get_results()

    return script


def _validate(entrypoint: str, options: RayJobOptions) -> None:
    RayJobConfig.validated(entrypoint=entrypoint, **without_selectors(options))


def _name(specs: Sequence[dg.AssetSpec]) -> str | None:
    """Returns the op's name for a single asset, as Dagster names the op of `@asset`."""
    return specs[0].key.to_python_identifier() if len(specs) == 1 else None


__all__ = ["ray_job_asset"]
