"""Types for annotations."""

from typing import TypeAlias

from dagster import AssetExecutionContext, InitResourceContext, OpExecutionContext

from dagster_ray import _library

_library.register()

OpOrAssetExecutionContext: TypeAlias = OpExecutionContext | AssetExecutionContext
AnyDagsterContext: TypeAlias = OpOrAssetExecutionContext | InitResourceContext

__all__ = ["AnyDagsterContext", "OpOrAssetExecutionContext"]
