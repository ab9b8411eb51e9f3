"""Finds keys of the configuration, such as `executor.isolation`."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from dagster_ray.reference.dagster_schemas import Schema
from dagster_ray.reference.topics import ENVIRONMENT

_DEPTH = 6
_NEAREST = 5


@dataclass(frozen=True)
class Key:
    """A key of the configuration, with its schema."""

    path: str
    schema: Schema
    # The schema of the topic, which has the definitions.
    root: Schema
    is_required: bool = False

    @property
    def resolved(self) -> Schema:
        """The schema without references and without the alternative null."""
        return _resolved(self.schema, self.root)

    @property
    def description(self) -> str:
        """What the key means."""
        text = self.schema.get("description") or self.resolved.get("description") or ""
        return " ".join(text.split())

    @property
    def default(self) -> object:
        """The default, or `None` if there is none, or if the description says it."""
        found = self.schema.get("default")
        return None if found in ({}, []) else found

    @property
    def environment(self) -> list[str]:
        """The environment variables that have a meaning for the key."""
        return list(self.schema.get(ENVIRONMENT, []))

    @property
    def examples(self) -> list[object]:
        """Values that can be written."""
        return list(self.schema.get("examples", []))

    @property
    def type(self) -> str:
        """The type of the value, in words."""
        return _words(self.schema, self.root)

    def fields(self) -> list["Key"]:
        """Returns the keys of an object, or of the elements of a list."""
        schema = self.resolved
        if schema.get("type") == "array" and isinstance(schema.get("items"), Mapping):
            schema = _resolved(schema["items"], self.root)
        elif not schema.get("properties") and isinstance(schema.get("additionalProperties"), dict):
            schema = _resolved(schema["additionalProperties"], self.root)
        required = schema.get("required", [])
        return [
            Key(f"{self.path}.{name}", field, self.root, name in required)
            for name, field in schema.get("properties", {}).items()
        ]

    def below(self, depth: int = _DEPTH) -> Iterator["Key"]:
        """Returns all keys below this one."""
        if depth == 0:
            return
        for key in self.fields():
            yield key
            # The same fields, nested.
            if key.path.rpartition(".")[2] != "ray":
                yield from key.below(depth - 1)

    def document(self) -> dict[str, Any]:
        """Returns the key for JSON."""
        return {
            "key": self.path,
            "type": self.type,
            "required": self.is_required,
            "default": self.default,
            "description": self.description,
            "environment": self.environment,
            "examples": self.examples,
        }


def find(topics: Mapping[str, Schema], path: str) -> Key | None:
    """Returns a key, or `None` if there is none. Keys of a `ray:` mapping are those above it."""
    # A component's name can have a slash, but no dot.
    topic, _, rest = path.partition(".")
    if topic not in topics:
        return None
    key = Key(topic, topics[topic], topics[topic])
    for name in filter(None, rest.split(".")):
        found = [field for field in key.fields() if field.path == f"{key.path}.{name}"]
        if not found:
            return None
        key = found[0]
    return key


def every(topics: Mapping[str, Schema]) -> Iterator[Key]:
    """Returns all keys of all topics."""
    for name, schema in topics.items():
        topic = Key(name, schema, schema)
        yield topic
        yield from topic.below()


def nearest(topics: Mapping[str, Schema], path: str) -> list[str]:
    """Returns the keys that resemble a wrong one, the most similar first."""
    known = [key.path for key in every(topics)]
    last = path.rpartition(".")[2]
    same = [key for key in known if key.rpartition(".")[2] == last]
    similar = difflib.get_close_matches(path, known, _NEAREST, 0.6)
    return list(dict.fromkeys([*same, *similar]))[:_NEAREST]


def _resolved(schema: Schema, root: Schema) -> Schema:
    if "$ref" in schema:
        found: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return _resolved(found, root)
    parts: list[Schema] = schema.get("anyOf") or schema.get("oneOf") or []
    others = [part for part in parts if part.get("type") != "null"]
    # A value, or a selector such as `{env: NAME}`: the fields are those of the value.
    values = [part for part in others if not _is_selector(part)] or others
    return _resolved(values[0], root) if len(values) == 1 else schema


def _is_selector(schema: Schema) -> bool:
    return list(schema.get("properties", {})) == ["env"]


def _words(schema: Schema, root: Schema) -> str:
    if "$ref" in schema:
        return _words(_resolved(schema, root), root)
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    parts: list[Schema] = schema.get("anyOf") or schema.get("oneOf") or []
    if parts:
        return " or ".join(dict.fromkeys(_words(part, root) for part in parts))
    if _is_selector(schema):
        return "`{env: NAME}`"
    written: object = schema.get("type")
    if isinstance(written, list):
        types = cast("list[str]", written)
        return " or ".join(_words({**schema, "type": one}, root) for one in types)
    match written:
        case "array":
            return f"list of {_part(schema['items'], root)}" if schema.get("items") else "list"
        case "object":
            values = schema.get("additionalProperties")
            if isinstance(values, dict) and values and not schema.get("properties"):
                return f"mapping to {_part(cast('Schema', values), root)}"
            return "mapping"
        case None:
            return "any"
        case _:
            return str(written)


def _part(schema: Schema, root: Schema) -> str:
    words = _words(schema, root)
    return f"({words})" if " or " in words else words


__all__ = ["Key", "every", "find", "nearest"]
