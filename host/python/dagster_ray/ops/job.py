"""The op and the function that run a script as a Ray job."""

from collections.abc import Mapping
from typing import Any, cast

import dagster as dg
from typing_extensions import Unpack

from dagster_ray.dagster_internals import PipesClientCompletedInvocation
from dagster_ray.dagster_typing import ReportedResult
from dagster_ray.instance_policy import check_op
from dagster_ray.ops.clients import client_for, run_script
from dagster_ray.ops.config import RayJobConfig, RayJobOptions
from dagster_ray.types import OpOrAssetExecutionContext as Context


def execute_ray_job(
    context: Context, entrypoint: str, **options: Unpack[RayJobOptions]
) -> PipesClientCompletedInvocation:
    """Runs a script as a Ray job until it ends, within an op or asset.

    Its output goes to Dagster's compute log, and its Pipes messages to Dagster. The options are
    those of `ray_job_op`. Raises `ScriptFailedError` unless the script succeeds. If the step ends
    before, the Ray job is stopped.
    """
    return run_ray_job(context, RayJobConfig.validated(entrypoint=entrypoint, **options))


def run_ray_job(context: Context, config: RayJobConfig) -> PipesClientCompletedInvocation:
    """Runs a script with a configuration that is valid."""
    return run_script(
        client_for(config.connection, timeout=config.timeout),
        context,
        config.parameters(),
        ray_job=config.ray_job,
        extras=dict(config.extras or {}),
    )


@dg.op(
    ins={"start_after": dg.In(dg.Nothing)},
    out=dg.Out(dg.Nothing),
    config_schema=cast(Any, RayJobConfig.to_fields_dict()),
    tags={"dagster/kind/ray": ""},
)
def ray_job_op(context: dg.OpExecutionContext) -> None:
    """Runs a script as a Ray job, and fails if the script fails.

    Write `ray_job_op.configured({"entrypoint": "python train.py"}, name="train")` for an op whose
    options are fixed. Otherwise the run's config has them, as far as the policy of the instance
    allows. The output of the script goes to the op's compute log, and materializations that it
    reports through Dagster Pipes to the event log. `start_after` orders ops without passing values.
    """
    op_config: Mapping[str, Any] = context.op_config
    given = {name: value for name, value in op_config.items() if value is not None}
    run_config = context.run.run_config
    check_op(
        context.instance, given, context.op_handle.path, run_config, context.job_def.run_config
    )
    completed: Any = run_ray_job(context, RayJobConfig.validated(**given))
    context.add_output_metadata(completed.metadata)
    for result in completed.get_results(implicit_materializations=False):
        if isinstance(result, dg.MaterializeResult):
            found = cast("ReportedResult", result)
            key = found.asset_key
            if key is not None:
                context.log_event(dg.AssetMaterialization(key, metadata=cast(Any, found.metadata)))


__all__ = ["execute_ray_job", "ray_job_op", "run_ray_job"]
