"""Values on a Ray with several nodes, of which some end."""

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import pytest
from dagster_ray.errors import NotFoundError
from dagster_ray.io.frames import pack, unpack
from dagster_ray.io.ray_store import RayStore
from dagster_ray.io.value_actors import NAMESPACE, REGISTRY
from processes import wait_for

pytestmark = pytest.mark.slow

_BYTES = 8 << 20
_NODE: dict[str, Any] = {"num_cpus": 2, "object_store_memory": 100 << 20}
# Ray otherwise takes 15 s to notice that a node has died.
_FAST_DETECTION = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 3000,
    "health_check_failure_threshold": 3,
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    import ray
    from ray import cloudpickle
    from ray.cluster_utils import Cluster

    cast(Any, cloudpickle).register_pickle_by_value(sys.modules[__name__])
    before = os.environ.pop("RAY_ADDRESS", None)
    head = {**_NODE, "include_dashboard": False, "_system_config": _FAST_DETECTION}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    if before is not None:
        os.environ["RAY_ADDRESS"] = before


@pytest.fixture(scope="module")
def second(cluster: Any) -> Any:
    """Returns a node that is not the one of the registry."""
    return cluster.add_node(**_NODE)


def _on(node: Any, work: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function in a process on a node."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    bound = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
    remote: Any = ray.remote(max_calls=1, num_cpus=1)(work)
    return ray.get(remote.options(scheduling_strategy=bound).remote(*arguments))


def _store(key: str, number: int, size: int) -> str:
    store = RayStore(None)
    return str(store.put(key, pack(np.full(size, number, dtype=np.int8)), True, None, {})["node"])


def _load(key: str) -> list[int]:
    return np.unique(unpack(RayStore(None).get(key))).tolist()


def test_a_value_stays_on_its_node_and_outlives_another(cluster: Any, second: Any) -> None:
    keeps, leaves = second, cluster.add_node(**_NODE)
    for number, size in enumerate((100, _BYTES)):
        # The second put has not happened yet when the value is read.
        assert keeps.node_id[:8] in _on(keeps, _store, f"asset/{size}/=", number, size)
        assert _on(leaves, _load, f"asset/{size}/=") == [number]
    _on(leaves, _store, "asset/other/=", 9, _BYTES)
    cluster.remove_node(leaves, allow_graceful=False)
    for number, size in enumerate((100, _BYTES)):
        assert _load(f"asset/{size}/=") == [number]
    # A registry that has started again does not know what the node kept.
    reason = f"on node .*{leaves.node_id[:8]}|values are kept since"
    for _ in range(2):
        with pytest.raises(NotFoundError, match=reason):
            _load("asset/other/=")
    assert RayStore(None).stat(["asset/other/="]) == [None]


@pytest.mark.nightly
def test_a_new_registry_does_not_bring_back_an_overwritten_value(cluster: Any, second: Any) -> None:
    import ray

    first = cluster.head_node
    _on(second, _store, "asset/moved/=", 1, _BYTES)
    _on(first, _store, "asset/moved/=", 2, _BYTES)
    assert _on(second, _load, "asset/moved/=") == [2]
    ray.kill(ray.get_actor(REGISTRY, NAMESPACE), no_restart=False)
    assert _load("asset/moved/=") == [2]
    _on(first, _store, "asset/moved/=", 3, 100)
    assert _load("asset/moved/=") == [3]
    assert RayStore(None).delete(["asset/moved/="]) == 1
    ray.kill(ray.get_actor(REGISTRY, NAMESPACE), no_restart=False)
    wait_for("a registry", lambda: RayStore(None).stat(["asset/moved/="]) == [None])
