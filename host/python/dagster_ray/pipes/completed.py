"""The results of a completed script, also for an asset that returns nothing.

Dagster rejects an asset that opens a Pipes session and does not return its results. Code written
before this rule is common, so the rule applies only to assets that call `get_results`.
"""

import inspect
from typing import Any

import dagster as dg

from dagster_ray.dagster_internals import PipesClientCompletedInvocation
from dagster_ray.dagster_typing import (
    PendingEvents,
    add_asset_metadata,
    decorated_function,
    reported_check,
    reported_materializations,
    reported_results,
)


class CompletedScript(PipesClientCompletedInvocation):
    """The results of a completed script."""

    def get_results(self, *args: Any, **kwargs: Any) -> Any:
        context = self._session.context
        if isinstance(context, dg.AssetExecutionContext) and context.has_assets_def:
            PendingEvents(context).remove_results()
            context.set_requires_typed_event_stream(
                error_message="Return the results of the script."
            )
        inherited: Any = super()
        return inherited.get_results(*args, **kwargs)

    def keep_results(self) -> None:
        """Lets an asset return nothing without losing what its script has reported."""
        context = self._session.context
        if not isinstance(context, dg.AssetExecutionContext) or not context.has_assets_def:
            return
        checks = {reported_check(one) for one in reported_results(self._session)}
        declared = frozenset(key for key in context.selected_asset_check_keys if key in checks)
        if declared and not _is_generator(context):
            self._yield_results(context, declared)
        else:
            self._attach_metadata(context)

    def _yield_results(
        self, context: dg.AssetExecutionContext, checks: frozenset[dg.AssetCheckKey]
    ) -> None:
        """Lets Dagster take the results as if the asset had returned them, once it has ended.

        A check refers to the materialization before it, so both must come in this order. An asset
        with checks cannot return a value instead: Dagster wants one for each check, too.
        """
        inherited: Any = super()
        pending = PendingEvents(context)
        pending.remove_results()
        # The implicit materializations of Dagster come last.
        results = sorted(inherited.get_results(), key=lambda one: reported_check(one) is not None)
        for result in results:
            key = reported_check(result)
            if key is None or key in checks:
                pending.add(result)
            else:
                context.log.warning(
                    f"[pipes] the check {key.to_user_string()} is ignored: it is not among the "
                    "asset's check_specs"
                )
        context.set_requires_typed_event_stream(
            error_message="The script has not reported them, and the asset returns nothing."
        )

    def _attach_metadata(self, context: dg.AssetExecutionContext) -> None:
        context.get_step_execution_context()._requires_typed_event_stream = False  # pyright: ignore[reportPrivateUsage]
        for result in reported_materializations(self._session):
            if result.asset_key is None:
                continue
            if result.metadata:
                add_asset_metadata(context, result.metadata, result.asset_key)
            if result.data_version is not None:
                context.set_data_version(result.asset_key, result.data_version)


def _is_generator(context: dg.AssetExecutionContext) -> bool:
    """Whether the asset yields its results itself."""
    function = decorated_function(context)
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


__all__ = ["CompletedScript"]
