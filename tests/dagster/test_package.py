"""The metadata and the files of the installed package."""

import ast
import hashlib
import re
import sys
from importlib.metadata import files, metadata, requires
from pathlib import Path

import dagster_ray
import pytest
from dagster_ray import dagster_internals, lazy_names
from packaging.requirements import Requirement

DISTRIBUTION = "dagster-ray-wasm"
PACKAGE = Path(dagster_ray.__file__).parent
# Packages that need not be installed: only pytest loads the module that imports `pytest`, and
# without `cloudpickle` Ray's copy of it is used.
OPTIONAL = {"pytest", "cloudpickle"}


def requirements() -> list[Requirement]:
    return [Requirement(text) for text in requires(DISTRIBUTION) or []]


def extras(name: str) -> set[str]:
    """Returns the names of the packages that an extra installs."""
    return {
        requirement.name
        for requirement in requirements()
        if requirement.marker and requirement.marker.evaluate({"extra": name})
    }


def imported_modules() -> set[str]:
    """Returns the imported top-level modules outside the package and the standard library."""
    found: set[str] = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"dagster_ray"}


def test_only_dagster_internals_imports_private_modules_of_dagster() -> None:
    private = re.compile(r"^\s*(from|import) dagster\._", re.M)
    found = {
        str(f.relative_to(PACKAGE)) for f in PACKAGE.rglob("*.py") if private.search(f.read_text())
    }
    assert found == {"dagster_internals.py"}


@pytest.mark.parametrize("name", lazy_names.imports(dagster_internals.__name__))
def test_dagster_has_each_private_name_that_the_package_uses(name: str) -> None:
    assert getattr(dagster_internals, name) is not None


def provided_modules(distribution: str) -> set[str]:
    """Returns the top-level modules in the files of an installed package.

    `packages_distributions` of Python 3.10 knows only packages with a file `top_level.txt`.
    """
    return {file.parts[0].removesuffix(".py") for file in files(distribution) or []}


def test_every_imported_package_is_declared() -> None:
    declared = {requirement.name for requirement in requirements()}
    provided = set[str]().union(*map(provided_modules, declared))
    assert imported_modules() - OPTIONAL - provided == set()


@pytest.mark.parametrize("extra", ["run_launcher", "executor", "kuberay", "pipes", "ray"])
def test_the_extras_of_pypis_package_install_ray(extra: str) -> None:
    assert extras(extra) == {"ray"}


def test_the_metadata_is_complete() -> None:
    fields = metadata(DISTRIBUTION)
    assert fields["Version"] == dagster_ray.__version__
    assert fields["License-Expression"] == "Apache-2.0"
    assert "# dagster-ray-wasm" in (fields.json["description"] or "")
    labels = {line.split(",")[0] for line in fields.get_all("Project-URL") or []}
    assert {"Homepage", "Documentation", "Source", "Changelog", "Issues"} <= labels


def test_components_have_a_manifest_and_precompiled_code() -> None:
    components = sorted((PACKAGE / "components").glob("*.wasm"))
    assert [file.stem for file in components] == [
        "existing",
        "files",
        "kuberay",
        "local",
        "object-store",
        "simulated",
    ]
    for file in components:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        manifest = file.with_suffix(".toml").read_text()
        assert re.search(r'^sha256 = "(\w+)"', manifest, re.M)[1] == digest  # pyright: ignore
        # Only tests use the simulated backend.
        is_compiled = file.with_name(f"{file.stem}.{digest[:16]}.cwasm").is_file()
        assert is_compiled == (file.stem != "simulated")
