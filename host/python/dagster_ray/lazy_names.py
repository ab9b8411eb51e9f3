"""Imports the names of a module on first use.

A module lists such names once, as imports in a block `if TYPE_CHECKING:`.
"""

import ast
import sys
from functools import cache
from importlib import import_module
from typing import Any


@cache
def imports(module: str) -> dict[str, str]:
    """Returns the names that a module imports for type checkers, each with its source module."""
    file = sys.modules[module].__file__
    assert file is not None
    # No pathlib: it takes 8 ms to import.
    with open(file, encoding="utf-8") as opened:  # noqa: PTH123
        tree = ast.parse(opened.read())
    return {
        alias.name: imported.module
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for imported in block.body
        if isinstance(imported, ast.ImportFrom) and imported.module
        for alias in imported.names
    }


def find(module: str, name: str) -> Any:
    """Imports a name on first use, for the function `__getattr__` of a module."""
    # The import system looks up names such as `__path__`, which no module lists.
    source = None if name.startswith("__") else imports(module).get(name)
    if source is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    value = getattr(import_module(source), name)
    setattr(sys.modules[module], name, value)
    return value


__all__ = ["find", "imports"]
