"""Converts Dagster's schemas of configuration to JSON schemas."""

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

_SCALARS = {"INT": "integer", "STRING": "string", "BOOL": "boolean", "FLOAT": "number"}


def of_fields(fields: Mapping[str, Any], description: str) -> Schema:
    """Returns the schema of an object with these fields of type `dagster.Field`, and no others."""
    schema = _object(fields)
    return {**schema, "description": description}


def of_field(field: Any) -> Schema:
    """Returns the schema of a field, with its description and default."""
    schema = of_type(field.config_type)
    if field.description:
        schema["description"] = field.description
    if field.default_provided and field.default_value is not None:
        schema["default"] = field.default_value
    return schema


def of_type(config_type: Any) -> Schema:
    """Returns the schema of a type of Dagster's configuration."""
    kind: str = config_type.kind.name
    match kind:
        case "SCALAR":
            return {"type": _SCALARS[config_type.scalar_kind.name]}
        case "NONEABLE":
            return {"anyOf": [of_type(config_type.inner_type), {"type": "null"}]}
        case "ARRAY":
            return {"type": "array", "items": of_type(config_type.inner_type)}
        case "MAP":
            return {"type": "object", "additionalProperties": of_type(config_type.inner_type)}
        case "STRICT_SHAPE":
            return _object(config_type.fields)
        case "PERMISSIVE_SHAPE":
            return {**_object(config_type.fields), "additionalProperties": True}
        case "SELECTOR":
            selector = {**_object(config_type.fields), "minProperties": 1, "maxProperties": 1}
            selector.pop("required", None)
            return selector
        case "SCALAR_UNION":
            parts = (config_type.scalar_type, config_type.non_scalar_type)
            return {"anyOf": [of_type(part) for part in parts]}
        case "ENUM":
            return {"enum": [value.config_value for value in config_type.enum_values]}
        case _:
            return {}


def _object(fields: Mapping[str, Any]) -> Schema:
    schema: Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: of_field(field) for name, field in sorted(fields.items())},
    }
    required = sorted(name for name, field in fields.items() if field.is_required)
    return {**schema, "required": required} if required else schema


__all__ = ["Schema", "of_field", "of_fields", "of_type"]
