"""Checks the packages of this environment and the cache of compiled code."""

import importlib.metadata
import platform
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.version import Version

from dagster_ray import _installation, _version
from dagster_ray.component_files import native
from dagster_ray.doctor.check import Check, failed, ok

DISTRIBUTION = "dagster-ray-wasm"
# The extra that requires Ray.
_EXTRA = "ray"
_DEPENDENCIES = ("dagster", "dagster-pipes", "ray")


def check_packages() -> Check:
    """Checks that no other distribution has overwritten this package."""
    try:
        _installation.check()
    except ImportError as error:
        message, _, command = str(error).partition("; ")
        return failed("packages", message, command)
    return ok("packages", f"{DISTRIBUTION} {_version.__version__}, and no other dagster-ray")


def check_versions() -> Iterator[Check]:
    """Compares the versions of Python, Dagster and Ray with those that this package requires."""
    metadata = importlib.metadata.metadata(DISTRIBUTION)
    python, supported = platform.python_version(), metadata["Requires-Python"] or ""
    yield version_check("python", "Python", python, supported)
    for requirement in _requirements():
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            if requirement.name == "ray":
                yield ok(
                    "ray package",
                    "not installed; needed only for resources, `RayIOManager`, and for a Ray here",
                )
            else:
                remedy = f"pip install '{requirement.name}{requirement.specifier}'"
                yield failed(requirement.name, "not installed", remedy)
            continue
        name = "ray package" if requirement.name == "ray" else requirement.name
        yield version_check(name, requirement.name, version, str(requirement.specifier))


def version_check(name: str, package: str, version: str, supported: str) -> Check:
    """Checks a version against a specifier such as `>=1.12`."""
    requirement = Requirement(f"{package}{supported}")
    if requirement.specifier.contains(Version(version), prereleases=True):
        return ok(name, f"{package} {version} ({supported} is supported)", version=version)
    remedy = f"install {package}{supported}"
    message = f"{package} {version} is not supported, only {supported}"
    return failed(name, message, remedy, version=version)


def _requirements() -> list[Requirement]:
    """Returns the requirements of this package for Dagster and Ray, each once."""
    found: dict[str, Requirement] = {}
    for text in importlib.metadata.requires(DISTRIBUTION) or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if requirement.name not in _DEPENDENCIES:
            continue
        if marker is None or marker.evaluate({"extra": _EXTRA}):
            found.setdefault(requirement.name, requirement)
    return [found[name] for name in _DEPENDENCIES if name in found]


def check_cache() -> Check:
    """Checks the directory with the compiled code of components."""
    directory = native().cache_directory()
    problems = native().cache_problems()
    if not problems:
        return ok("cache", f"{directory} can be written, and its files are intact")
    remedy = (
        "set DAGSTER_RAY_CACHE_DIR to a directory of this user; without a cache, components that "
        "are not built in are compiled in each process"
    )
    if directory is not None and directory.is_dir():
        remedy = f"remove the named files, or give {directory} to this user (chmod 700)"
    return failed("cache", "\n".join(problems), remedy)


__all__ = ["DISTRIBUTION", "check_cache", "check_packages", "check_versions", "version_check"]
