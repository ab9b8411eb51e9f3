"""The program behind ``dagster-ray explain`` and ``dagster-ray schema``."""

import argparse
import json
import sys

from dagster_ray.errors import DagsterRayError
from dagster_ray.reference import text
from dagster_ray.reference.keys import Key, find, nearest
from dagster_ray.reference.topics import topics

_USAGE = 2


def main() -> int:
    """Prints an explanation, a page or a schema."""
    parser = argparse.ArgumentParser("dagster-ray")
    parser.add_argument("--json", action="store_true")
    commands = parser.add_subparsers(dest="command", required=True)
    explain = commands.add_parser("explain")
    explain.add_argument("--markdown", action="store_true")
    explain.add_argument("key", nargs="?")
    schema = commands.add_parser("schema")
    schema.add_argument("name")
    arguments = parser.parse_args()
    try:
        known = topics()
    except DagsterRayError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    if arguments.command == "schema":
        if arguments.name not in known:
            return _wrong(f"no schema {arguments.name!r}", ["manifest", "policy", *known])
        _write(json.dumps(known[arguments.name], indent=2, default=str))
        return 0
    if arguments.markdown:
        _write(text.markdown(known))
        return 0
    if arguments.key is None:
        keys = [Key(name, schema, schema) for name, schema in known.items()]
        document = [key.document() for key in keys]
        _write(
            json.dumps(document, indent=2, default=str) if arguments.json else text.listed(known)
        )
        return 0
    key = find(known, arguments.key)
    if key is None:
        return _wrong(f"no key {arguments.key!r}", nearest(known, arguments.key) or list(known))
    if arguments.json:
        fields = [field.document() for field in key.fields()]
        _write(json.dumps({**key.document(), "fields": fields}, indent=2, default=str))
    else:
        _write(text.explained(key))
    return 0


def _write(result: str) -> None:
    sys.stdout.write(f"{result}\n")


def _wrong(problem: str, known: list[str]) -> int:
    names = ", ".join(dict.fromkeys(known))
    sys.stderr.write(f"error: there is {problem}; similar ones are: {names}\n")
    return _USAGE


if __name__ == "__main__":
    sys.exit(main())
