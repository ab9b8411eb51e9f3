"""Finds or creates the actors that keep values: the registry, and the keeper of each node."""

from typing import Any, cast

from dagster_ray.errors import UnavailableError

NAMESPACE = "dagster-ray"
REGISTRY = "dagster-ray-values"
# The name of a keeper is this and the id of its node.
KEEPER = f"{REGISTRY}-"

# Threads of each actor. Large values are copied concurrently and do not block lookups.
_THREADS = 16
# Attempts of a request, each on a new actor if the previous one died.
TRIES = 3


def registry_actor() -> Any:
    """Returns the registry. A new one is created on the head node, which lives longest."""
    found = _found(REGISTRY)
    if found is not None:
        return found
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from dagster_ray.io.registry import Registry

    heads = [node["NodeID"] for node in _nodes() if "node:__internal_head__" in node["Resources"]]
    placed = NodeAffinitySchedulingStrategy(heads[0], soft=True) if heads else "DEFAULT"
    return _created(Registry, REGISTRY, placed, KEEPER)


def keeper_actor(node: str, *, create: bool) -> Any:
    """Returns the keeper of a node. Raises `UnavailableError` if none exists or can be created."""
    found = _found(KEEPER + node)
    if found is not None:
        return found
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from dagster_ray.io.keeper import Keeper

    if not create:
        raise UnavailableError(f"no process keeps the values of node {node}")
    placed = NodeAffinitySchedulingStrategy(node, soft=False)
    return _created(Keeper, KEEPER + node, placed, REGISTRY)


def _found(name: str) -> Any:
    import ray

    try:
        return cast(Any, ray).get_actor(name, NAMESPACE)
    except ValueError:
        return None


def _created(cls: type, name: str, placed: Any, other: str) -> Any:
    import ray
    from ray import cloudpickle

    from dagster_ray.io import keeper, registry

    # Nodes of a cluster may not have this package installed.
    for module in (registry, keeper):
        cast(Any, cloudpickle).register_pickle_by_value(module)
    return (
        cast(Any, ray)
        .remote(cls)
        .options(
            name=name,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_concurrency=_THREADS,
            max_restarts=-1,
            max_task_retries=TRIES,
            scheduling_strategy=placed,
        )
        .remote(other, NAMESPACE)
    )


def _nodes() -> list[dict[str, Any]]:
    import ray

    nodes: list[dict[str, Any]] = cast(Any, ray).nodes()
    return [node for node in nodes if node["Alive"]]


__all__ = ["KEEPER", "NAMESPACE", "REGISTRY", "TRIES", "keeper_actor", "registry_actor"]
