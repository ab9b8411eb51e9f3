"""Pages of the Python API: one for each public module, with the names of its `__all__`.

mkdocstrings renders docstrings and signatures. The fields of configuration classes have no
docstrings, but the argument `description` of pydantic's `Field`: tables show them.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

# The public modules. docs/reference/api.md describes them.
MODULES = (
    "dagster_ray",
    "dagster_ray.kuberay",
    "dagster_ray.reconcile",
    "dagster_ray.testing",
    "dagster_ray.errors",
    "dagster_ray.configs",
    "dagster_ray.dg",
)
# Names without a definition in the source that could be described.
_LEFT_OUT = {"__version__", "DEFAULT_DEPLOYMENT_NAME"}


def pages(source: Path) -> dict[str, str]:
    """Returns the page of each module by its place in the site."""
    return {f"reference/api/{module}.md": _page(source, module) for module in MODULES}


def contents(source: Path) -> str:
    """Returns the list of modules with their names."""
    lines = ["## Modules", ""]
    for module in MODULES:
        names = ", ".join(f"`{name}`" for name in _names(source, module))
        lines.append(f"- [`{module}`](api/{module}.md): {names}")
    return "\n".join(lines) + "\n"


def _page(source: Path, module: str) -> str:
    parts = [f"# {module}\n"]
    for name in _names(source, module):
        parts.append(f"::: {module}.{name}\n")
        parts += _fields(source, module, name)
    return "\n".join(parts)


def _names(source: Path, module: str) -> list[str]:
    """Returns the names of a module's `__all__`, or otherwise its public classes."""
    tree = _tree(source, module)
    for node in tree.body:
        if isinstance(node, ast.Assign) and "__all__" in _targets(node):
            return [name for name in ast.literal_eval(node.value) if name not in _LEFT_OUT]
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    return [name for name in classes if not name.startswith("_")]


def _fields(source: Path, module: str, name: str) -> list[str]:
    """Returns a table of the fields that a class itself has, if they are described."""
    found = _definition(source, module, name)
    rows = [] if found is None else list(_rows(found))
    if not rows:
        return []
    return ["| field | default | meaning |", "|---|---|---|", *rows, ""]


def _rows(found: ast.ClassDef) -> Iterator[str]:
    for node in found.body:
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        value = node.value
        if not (isinstance(value, ast.Call) and ast.unparse(value.func) == "Field"):
            continue
        given = {one.arg: one.value for one in value.keywords}
        description = given.get("description")
        if not isinstance(description, ast.Constant):
            continue
        default = given.get("default")
        shown = "" if default is None else f"`{ast.unparse(default)}`"
        kind = ast.unparse(node.annotation).replace("|", "\\|")
        text = str(description.value).replace("|", "\\|")
        yield f"| `{node.target.id}`: `{kind}` | {shown} | {text} |"


def _definition(source: Path, module: str, name: str) -> ast.ClassDef | None:
    """Returns the class of that name. Imports are followed."""
    for node in ast.walk(_tree(source, module)):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node
        if isinstance(node, ast.ImportFrom) and any(one.name == name for one in node.names):
            origin = node.module or ""
            return _definition(source, origin, name) if origin.startswith("dagster_ray") else None
    return None


def _tree(source: Path, module: str) -> ast.Module:
    base = source / module.replace(".", "/")
    file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    return ast.parse(file.read_text())


def _targets(node: ast.Assign) -> set[str]:
    return {target.id for target in node.targets if isinstance(target, ast.Name)}
