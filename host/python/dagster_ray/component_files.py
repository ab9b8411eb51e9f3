"""Finds components, and the settings that they declare."""

import atexit
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TypedDict

_COMPONENTS = Path(__file__).parent / "components"


class Restriction(TypedDict):
    """The operator's restriction of a component, as arguments of the native module."""

    grants: str | None
    sha256: str | None
    # The root directory of the Dagster instance, whose policy can require a signature. Default:
    # DAGSTER_HOME.
    policy_root: str | None


def restriction_arguments(
    grants: Mapping[str, object] | None, sha256: str | None, policy_root: str | None
) -> Restriction:
    """Returns the operator's restriction of a component, as arguments of the native module."""
    text = None if grants is None else json.dumps(grants)
    return {"grants": text, "sha256": sha256, "policy_root": policy_root}


def resolve_component(name: str) -> str:
    """Resolves a backend's name to the path of a component or its reference in a registry."""
    return native().named(name, str(_COMPONENTS))


def built_in(name: str) -> str:
    """Returns the path of a built-in component."""
    return str(_COMPONENTS / f"{name}.wasm")


def declared_settings(wasm: str, restriction: Restriction) -> set[str]:
    """Returns the keys that a component declares as settings.

    A component reads settings once. The other keys are options, passed with each run and step.
    """
    # The restriction includes the pinned sha256, so that no other file is called.
    probe = native().Component(
        wasm, settings={}, authorities=[], programs={}, directories=[], **restriction
    )
    return set(json.loads(probe.call("describe.describe", "{}"))["settings"])


def setting_texts(offered: Mapping[str, object], declared: Iterable[str]) -> dict[str, str]:
    """Returns the offered keys that are declared, with values as text."""
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in offered.items()
        if key in declared
    }


@cache
def native():
    """Imports the native module. It starts no thread before a component is called."""
    # Only without a return type do type checkers know the members of the module.
    from dagster_ray import _native

    # Programs that a component started must not outlive this process.
    atexit.register(_native.shutdown)
    return _native


__all__ = [
    "Restriction",
    "built_in",
    "declared_settings",
    "native",
    "resolve_component",
    "restriction_arguments",
    "setting_texts",
]
