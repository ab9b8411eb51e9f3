"""What the resources of all backends have in common."""

from dagster_ray import _library

_library.register()
