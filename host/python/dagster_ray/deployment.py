"""Identifies the Dagster deployment that owns what this package creates on Ray."""

import os
from typing import Any
from weakref import WeakKeyDictionary

from dagster import DagsterInstance

from dagster_ray import _library

_library.register()

# By run storage, because reading the id is a query of the database.
_storage_ids: WeakKeyDictionary[object, str] = WeakKeyDictionary()


def deployment_id(instance: DagsterInstance | None) -> str:
    """Returns the id of a deployment: its run storage's id, or its name on Dagster+.

    Returns "" without an instance, and if the run storage of the instance has no id.
    """
    if instance is None:
        return ""
    # Only the instances of Dagster+ have a name. Its agent has the instance, and the processes that
    # the agent starts also have the variable.
    name: object = getattr(instance, "deployment_name", None)
    if isinstance(name, str) and name:
        return name
    return os.environ.get("DAGSTER_CLOUD_DEPLOYMENT_NAME") or _storage_id(instance)


def _storage_id(instance: DagsterInstance) -> str:
    # Not a method of the base class of run storages, but of all those that use SQL.
    storage: Any = instance.run_storage
    if storage not in _storage_ids:
        read = getattr(storage, "get_run_storage_id", None)
        if read is not None:
            # The first read of a new storage stores an id and returns it. Two processes can do so
            # at once, and later reads return only one of the ids.
            read()
        _storage_ids[storage] = "" if read is None else str(read())
    return _storage_ids[storage]


def is_agent(instance: DagsterInstance) -> bool:
    """Whether an instance is an agent's of Dagster+, or that of a run which an agent launched."""
    # The attribute itself starts what launches code servers.
    return hasattr(type(instance), "user_code_launcher")


def deployment_name() -> str:
    """Returns the Dagster+ deployment or branch of this process, or `dev` outside Dagster+."""
    if os.environ.get("DAGSTER_CLOUD_IS_BRANCH_DEPLOYMENT") == "1":
        branch = os.environ.get("DAGSTER_CLOUD_GIT_BRANCH")
        if branch:
            return branch
    return os.environ.get("DAGSTER_CLOUD_DEPLOYMENT_NAME") or "dev"


__all__ = ["deployment_id", "deployment_name", "is_agent"]
