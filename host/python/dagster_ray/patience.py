"""Reads from a configuration how long to wait for Ray."""

import math
from collections.abc import Mapping
from typing import cast

from dagster_ray.configs import BackendConfig
from dagster_ray.patience_defaults import CHECK_SECONDS, UNREACHABLE_SECONDS

SETTING = "patience"
_CHECK = "check_seconds"
_UNREACHABLE = "unreachable_seconds"
_START = "start_seconds"
# Added to the limit of a check that the component applies itself. Its error names the address.
_GRACE_SECONDS = 2.0


def with_patience(config: BackendConfig, start_timeout: float | None = None) -> dict[str, object]:
    """Returns `backend_config`, with timeouts as fields of the setting `patience`.

    They are `unreachable_timeout` of the configuration, and `start_timeout`, the seconds for which
    a script may be pending. The component reports a `patience` that is not an object.
    """
    offered = dict(config.backend_config or {})
    given = offered.get(SETTING, {})
    timeouts = {_UNREACHABLE: config.unreachable_timeout, _START: start_timeout}
    # JSON has no infinity. Without the field, there is no limit.
    known = {
        key: value for key, value in timeouts.items() if value is not None and value < math.inf
    }
    if known and isinstance(given, Mapping):
        offered[SETTING] = {**known, **cast("Mapping[str, object]", given)}
    return offered


def unreachable_seconds(config: BackendConfig, own: float | None = None) -> float:
    """Returns for how long Ray may be unreachable. `own` overrides the configuration."""
    return own if own is not None else _number(config, _UNREACHABLE, UNREACHABLE_SECONDS)


def check_limit(config: BackendConfig) -> float:
    """Returns the seconds after which the call of a check is stopped."""
    return _number(config, _CHECK, CHECK_SECONDS) + _GRACE_SECONDS


def _number(config: BackendConfig, field: str, default: float) -> float:
    given: object = with_patience(config).get(SETTING)
    if not isinstance(given, Mapping):
        return default
    value = cast("Mapping[str, object]", given).get(field)
    return float(value) if isinstance(value, int | float) else default


__all__ = ["SETTING", "check_limit", "unreachable_seconds", "with_patience"]
