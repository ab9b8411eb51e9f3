"""Types for annotations."""

from typing import TypeAlias

from dagster import AssetExecutionContext, InitResourceContext, OpExecutionContext

OpOrAssetExecutionContext: TypeAlias = OpExecutionContext | AssetExecutionContext
AnyDagsterContext: TypeAlias = OpOrAssetExecutionContext | InitResourceContext

__all__ = ["AnyDagsterContext", "OpOrAssetExecutionContext"]
