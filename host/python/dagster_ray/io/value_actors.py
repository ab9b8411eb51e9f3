"""Finds or creates the actors that keep values: the registry, and the actor of each node."""

from typing import Any, cast

from dagster_ray.errors import UnavailableError

NAMESPACE = "dagster-ray"
REGISTRY = "dagster-ray-values"
# The name of a node actor is this and the id of its node.
NODE_ACTOR = f"{REGISTRY}-"

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
    return _created(Registry, REGISTRY, placed, NODE_ACTOR)


def actor_of_node(node: str, *, create: bool) -> Any:
    """Returns the actor of a node. Raises `UnavailableError` if none exists or can be created."""
    found = _found(NODE_ACTOR + node)
    if found is not None:
        return found
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from dagster_ray.io.node_actor import NodeActor

    if not create:
        raise UnavailableError(f"no process keeps the values of node {node}")
    placed = NodeAffinitySchedulingStrategy(node, soft=False)
    return _created(NodeActor, NODE_ACTOR + node, placed, REGISTRY)


def _found(name: str) -> Any:
    import ray

    try:
        return cast(Any, ray).get_actor(name, NAMESPACE)
    except ValueError:
        return None


def _created(cls: type, name: str, placed: Any, other: str) -> Any:
    import ray
    from ray import cloudpickle

    from dagster_ray.io import node_actor, registry

    # Nodes of a cluster may not have this package installed.
    for module in (registry, node_actor):
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


__all__ = ["NAMESPACE", "NODE_ACTOR", "REGISTRY", "TRIES", "actor_of_node", "registry_actor"]
