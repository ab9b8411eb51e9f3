"""What the components for scripts have in common: the assets, the checks and the op."""

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from dagster_ray.dagster_internals import PipesClientCompletedInvocation
from dagster_ray.errors import InvalidConfigError

_NO_NAME = re.compile(r"[^A-Za-z0-9_]+")


class ScriptComponent(dg.Component, dg.Resolvable, dg.Model):
    """A script that materializes assets or evaluates checks. It is a Ray job with Dagster Pipes."""

    entrypoint: str = Field(description="The command of the Ray job, such as `python train.py`.")
    name: str | None = Field(
        default=None, description="The op's name (default: the name of the component's folder)."
    )
    description: str | None = Field(default=None, description="The op's description.")
    tags: dict[str, str] | None = Field(default=None, description="The op's tags.")
    pool: str | None = Field(
        default=None, description="The concurrency pool in which the op takes a slot."
    )
    assets: list[dg.ResolvedAssetSpec] | None = Field(
        default=None, description="The assets that the script materializes."
    )
    checks: list[dg.ResolvedAssetCheckSpec] | None = Field(
        default=None, description="The asset checks that the script evaluates."
    )
    extras: dict[str, Any] | None = Field(
        default=None, description="Values that the script reads with `PipesContext.get_extra`."
    )

    resource_key: str | None = Field(
        default=None,
        description="The key of a resource with a client of Pipes, in place of one of its own.",
    )
    runtime_env: dict[str, Any] | None = Field(
        default=None,
        description=(
            "Ray's runtime environment. A relative `working_dir` begins at the component's folder."
        ),
    )
    metadata: dict[str, str] | None = Field(
        default=None, description="Metadata of the Ray job, in addition to the default metadata."
    )

    @abstractmethod
    def _run(
        self, context: dg.OpExecutionContext, folder: Path, resources: Mapping[str, object]
    ) -> PipesClientCompletedInvocation:
        """Runs the script. `folder` is the component's; relative paths begin there."""

    def _given_client(self, resources: Mapping[str, object]) -> object:
        """Returns the client of the resource, or `None` if the component names none."""
        return resources[self.resource_key] if self.resource_key else None

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Returns one op with the assets and checks."""
        folder = context.path if context.path.is_dir() else context.path.parent
        arguments: dict[str, Any] = {
            "name": self.name or _NO_NAME.sub("_", folder.name),
            "description": self.description,
            "op_tags": self.tags,
            "pool": self.pool,
            "required_resource_keys": {self.resource_key} if self.resource_key else set[str](),
        }
        if self.assets:

            @dg.multi_asset(specs=self.assets, check_specs=self.checks or None, **arguments)
            def script(context: dg.AssetExecutionContext) -> Iterator[Any]:
                yield from self._results(context.op_execution_context, folder)

            return dg.Definitions(assets=[script])
        if self.checks:

            @dg.multi_asset_check(specs=self.checks, **arguments)
            def check(context: dg.AssetCheckExecutionContext) -> Iterator[Any]:
                yield from self._results(context.op_execution_context, folder)

            return dg.Definitions(asset_checks=[check])
        problem = "name the assets that the script materializes, or the checks that it evaluates"
        raise InvalidConfigError(
            f"{context.path}: assets: there are none, and no checks; {problem}",
            fields=[{"path": "assets", "problem": "is empty", "hint": problem}],
        )

    def _results(self, context: dg.OpExecutionContext, folder: Path) -> Iterator[Any]:
        resources: Mapping[str, object] = context.resources._asdict()
        completed: Any = self._run(context, folder, resources)
        yield from completed.get_results()


def absolute_paths(runtime_env: Mapping[str, Any] | None, folder: Path) -> dict[str, Any] | None:
    """Returns a runtime environment whose relative `working_dir` begins at the component's folder.

    An address such as `s3://…` is not changed. The argument is not modified.
    """
    if runtime_env is None:
        return None
    directory = runtime_env.get("working_dir")
    if not isinstance(directory, str) or "://" in directory:
        return dict(runtime_env)
    return {**runtime_env, "working_dir": str(folder / directory)}
