"""Runs a Pipes script in an asset."""

from collections.abc import Callable
from typing import Any

import dagster as dg
from dagster_ray import PipesRayJobClient

# Writes a script, and returns the command that runs it.
Write = Callable[[str], str]


def run_script(
    client: PipesRayJobClient,
    params: dict[str, Any],
    *,
    instance: dg.DagsterInstance | None = None,
    checked: bool = False,
    **more: Any,
) -> tuple[dg.ExecuteInProcessResult, list[Any]]:
    """Runs a script, and returns the result and the custom messages."""
    custom: list[Any] = []

    checks = [dg.AssetCheckSpec("fine", asset="scripted")] if checked else None

    @dg.asset(check_specs=checks)
    def scripted(context: dg.AssetExecutionContext):
        done = client.run(context=context, submit_job_params=params, **more)  # type: ignore[arg-type]
        custom.extend(done.get_custom_messages())
        return done.get_results()

    job = dg.Definitions(assets=[scripted]).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance)
    return result, custom
