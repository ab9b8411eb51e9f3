"""Registers this package in Dagster's list of libraries."""

from dagster_ray._version import __version__


def register() -> None:
    """Adds this package to the libraries that a Dagster process reports. Imports Dagster.

    Every module that imports Dagster calls this function, directly or through its package, because
    importing `dagster_ray` alone does not import Dagster.
    """
    from dagster_ray.dagster_internals import DagsterLibraryRegistry

    DagsterLibraryRegistry.register("dagster-ray", __version__, is_dagster_package=False)
