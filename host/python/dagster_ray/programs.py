"""The commands of the programs that a component's manifest can grant."""

import sys


def known() -> dict[str, list[str]]:
    """Returns the default commands. Programs on the PATH may belong to another environment."""
    return {"python": [sys.executable], "ray": [sys.executable, "-m", "ray.scripts.scripts"]}


__all__ = ["known"]
