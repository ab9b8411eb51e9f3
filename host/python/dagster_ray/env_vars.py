"""Lists of environment variables: `KEY=VALUE`, or `KEY` for its value in this process."""

import os
from collections.abc import Iterable, Iterator, Sequence


def valued(entries: Iterable[object]) -> Iterator[object]:
    """Yields the entries as `KEY=VALUE`, without variables that this process does not have.

    An entry that is no text is passed on, because the component reports it.
    """
    for entry in entries:
        if not isinstance(entry, str) or "=" in entry:
            yield entry
        elif os.environ.get(entry):
            yield f"{entry}={os.environ[entry]}"


def resolve_env_vars_list(env_vars: Sequence[str] | None) -> dict[str, str]:
    """Returns the variables of a list with their values."""
    return dict(str(entry).split("=", 1) for entry in valued(env_vars or ()))


__all__ = ["resolve_env_vars_list", "valued"]
