"""The keys of a component's manifest, from its JSON schema."""

import json
from collections.abc import Mapping
from typing import Any

import command_pages


def keys() -> str:
    """Returns a table for each part of the manifest."""
    schema: dict[str, Any] = json.loads(command_pages.printed("schema"))
    parts = schema["properties"]
    own = {key: value for key, value in parts.items() if "properties" not in _deref(value, schema)}
    sections = ["## Top level", _table(own, schema)]
    for name, part in parts.items():
        inner = _deref(part, schema)
        if "properties" in inner:
            sections += [
                f"## `[{name}]`",
                inner.get("description", ""),
                _table(inner["properties"], schema),
            ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _table(properties: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, value in properties.items():
        described = _deref(value, schema)
        default = f"`{json.dumps(described['default'])}`" if "default" in described else ""
        text = str(described.get("description", "")).replace("\n", " ").replace("|", "\\|")
        lines.append(f"| `{key}` | {_type(described, schema)} | {default} | {text} |")
    return "\n".join(lines)


def _type(value: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "enum" in value:
        return ", ".join(f"`{choice}`" for choice in value["enum"])
    for either in ("anyOf", "oneOf"):
        if either in value:
            kinds = [_type(_deref(one, schema), schema) for one in value[either]]
            return " or ".join(dict.fromkeys(kinds))
    kind = value.get("type", "any")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array" and isinstance(value.get("items"), dict):
        return f"list of {_type(_deref(value['items'], schema), schema)}"
    if kind == "object" and "properties" in value:
        return "table with " + ", ".join(f"`{key}`" for key in value["properties"])
    return {"object": "table", "array": "list"}.get(kind, kind)


def _deref(value: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a part of the schema with its reference followed."""
    reference = value.get("$ref")
    if not isinstance(reference, str):
        return value
    found: Any = schema
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return {**found, **{key: one for key, one in value.items() if key != "$ref"}}
