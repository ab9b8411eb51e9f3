"""Writes keys of the configuration as text and as Markdown."""

import json
from collections.abc import Mapping

import yaml

from dagster_ray.reference.dagster_schemas import Schema
from dagster_ray.reference.keys import Key

_TITLE = "# Configuration"
_INTRODUCTION = (
    "Every key of the configuration. `dagster-ray explain KEY` prints one of them, and "
    "`dagster-ray schema NAME` the JSON schema of a section."
)


def explained(key: Key) -> str:
    """Returns the explanation of one key as lines of text."""
    rows = [("key", key.path), ("type", key.type)]
    if key.is_required:
        rows.append(("required", "yes"))
    if key.default is not None:
        rows.append(("default", _written(key.default)))
    if key.environment:
        rows.append(("environment", ", ".join(key.environment)))
    rows.extend(("example", _example(key, value)) for value in key.examples)
    lines = [f"{title + ':':<13}{value}" for title, value in rows]
    lines += ["", key.description]
    fields = key.fields()
    if fields:
        names = [field.path.rpartition(".")[2] for field in fields]
        width = max(map(len, names))
        lines += ["", "fields:"]
        lines += [
            f"  {name:<{width}}  {field.description}"
            for name, field in zip(names, fields, strict=True)
        ]
    return "\n".join(line.rstrip() for line in lines)


def listed(topics: Mapping[str, Schema]) -> str:
    """Returns the topics as lines of text."""
    width = max(map(len, topics))
    keys = [Key(name, schema, schema) for name, schema in topics.items()]
    return "\n".join(
        f"{key.path:<{width}}  {key.description or key.schema.get('title', '')}" for key in keys
    )


def markdown(topics: Mapping[str, Schema]) -> str:
    """Returns all topics as one page."""
    parts = [_TITLE, _INTRODUCTION]
    for name, schema in topics.items():
        topic = Key(name, schema, schema)
        parts.append(f"## {name}")
        parts.append(topic.description or f"{schema.get('title', name)}.")
        rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
        rows += [_row(key, name) for key in topic.below()]
        parts.append("\n".join(rows))
    return "\n\n".join(parts)


def _row(key: Key, topic: str) -> str:
    name = key.path.removeprefix(f"{topic}.")
    default = "" if key.default is None else f"`{_written(key.default)}`"
    meaning = key.description
    if key.environment:
        meaning += f" Environment: {', '.join(f'`{one}`' for one in key.environment)}."
    if key.examples:
        meaning += f" Example: `{_example(key, key.examples[0])}`."
    cells = [f"`{name}`", key.type, default, meaning]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _example(key: Key, value: object) -> str:
    name = key.path.rpartition(".")[2]
    return yaml.safe_dump({name: value}, default_flow_style=True, width=1000).strip()[1:-1]


__all__ = ["explained", "listed", "markdown"]
