"""The message with which a script reports an observation of its asset while it runs.

Dagster Pipes has no such message: it passes on one materialization for each asset.
"""

from collections.abc import Mapping
from typing import Any, cast

KEY = "dagster_ray_observation"
"""The key of the message."""


def message(asset_key: str, metadata: Mapping[str, Any]) -> dict[str, object]:
    """Returns the message for an observation. Its metadata are numbers and texts."""
    return {KEY: {"asset_key": asset_key, "metadata": dict(metadata)}}


def found(payload: object) -> tuple[str, Mapping[str, Any]] | None:
    """Returns the asset and the metadata of a message, or `None` for another message."""
    if not isinstance(payload, dict) or KEY not in payload:
        return None
    body = cast("dict[str, dict[str, Any]]", payload)[KEY]
    return body["asset_key"], body["metadata"]


__all__ = ["KEY", "found", "message"]
