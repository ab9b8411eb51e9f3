"""Code that all resources and Pipes clients share."""

from dagster_ray import _library

_library.register()
