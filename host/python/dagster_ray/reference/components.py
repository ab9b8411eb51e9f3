"""The settings and options that a component reports about itself, as JSON schemas."""

import json
from typing import cast

from dagster_ray.component_files import built_in, native, restriction_arguments
from dagster_ray.contract import Description
from dagster_ray.reference.dagster_schemas import Schema

# The built-in components that users configure, without the simulation.
BACKENDS = ("existing", "local", "kuberay")
STORES = ("object-store", "files")
# A setting whose value is JSON has its schema at the end of its description (`Patience::described`
# of `components/submission`).
_MARKER = ", as JSON with this schema: "


def schemas(name: str) -> dict[str, Schema]:
    """Returns the schemas of a built-in component's configuration, by topic.

    The first one is the value of `backend_config`. Roles with other options follow.
    """
    described = describe(name)
    options = {role: cast("Schema", schema) for role, schema in described["options"].items()}
    main = "io" if "io" in options else "launcher"
    settings = {key: _setting(text) for key, text in described["settings"].items()}
    found = {name: _with_settings(options[main], settings, described["summary"])}
    for role, schema in options.items():
        if schema != options[main]:
            found[f"{name}/{role}"] = schema
    return found


def describe(name: str) -> Description:
    """Returns what a built-in component reports about itself."""
    component = native().Component(
        built_in(name),
        settings={},
        authorities=[],
        programs={},
        directories=[],
        **restriction_arguments(None, None, None),
    )
    return json.loads(component.call("describe.describe", "{}"))


def _setting(text: str) -> Schema:
    description, marker, schema = text.partition(_MARKER)
    if not marker:
        return {"description": text}
    document = json.loads(schema)
    return {**document, "description": f"{description}."}


def _with_settings(options: Schema, settings: dict[str, Schema], summary: str) -> Schema:
    properties = {**options["properties"], **settings}
    return {**options, "properties": dict(sorted(properties.items())), "description": summary}


__all__ = ["BACKENDS", "STORES", "describe", "schemas"]
