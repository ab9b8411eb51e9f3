"""Values passed between processes: steps as Ray jobs, Ray Client, and killed writers."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster_ray.core.io_manager import DAGSTER_RAY_NAMESPACE, DAGSTER_RAY_OBJECT_MAP_NAME
from dagster_ray.deployment import deployment_id
from dagster_ray.errors import NotFoundError
from dagster_ray.io.directory_store import DirectoryStore
from dagster_ray.io.frames import pack, unpack
from dagster_ray.io.ray_store import RayStore
from dagster_ray.io.value_actors import NAMESPACE, NODE_ACTOR, REGISTRY
from processes import command_lines, wait_for
from ray_head import RayHead

JOB = Path(__file__).parent / "code/values_jobs.py"
# Another session of tests may use the same Ray.
SPACE = f"asset/{uuid.uuid4().hex}"


@pytest.fixture
def store(ray_head: RayHead) -> Iterator[RayStore]:
    import ray

    store = RayStore(ray_head.gcs)
    store.connect()
    yield store
    ray.shutdown()


def _run(
    home: Any, ray_head: RayHead, name: str
) -> tuple[dg.DagsterInstance, dg.JobExecutionResult]:
    instance = home({})
    config = {
        "execution": {
            "config": {"ray": {"address": ray_head.url, "env_vars": ["VALUES_LOCATION", "FAIL"]}}
        }
    }
    job = ReconstructableJob.for_file(str(JOB), name)
    with dg.execute_job(job, instance=instance, run_config=config) as result:
        return instance, result


def _kept(store: RayStore, instance: dg.DagsterInstance, run_id: str) -> int:
    return len(store.find(f"{deployment_id(instance)}/run/{run_id}/"))


def test_steps_pass_values_and_a_successful_run_deletes_them(
    home: Any, ray_head: RayHead, store: RayStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step is a separate Ray job, which has ended before the next step loads its value."""
    monkeypatch.setenv("VALUES_LOCATION", ray_head.gcs)
    instance, result = _run(home, ray_head, "in_ray")
    assert result.success, [entry.message for entry in instance.all_logs(result.run_id)]
    assert _kept(store, instance, result.run_id) == 0
    monkeypatch.setenv("FAIL", "1")
    instance, failed = _run(home, ray_head, "in_ray")
    assert not failed.success
    # A re-execution from the failed step needs the values.
    assert _kept(store, instance, failed.run_id) > 0


@pytest.mark.nightly
def test_the_same_job_works_with_the_files_backend(
    home: Any, ray_head: RayHead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VALUES_LOCATION", str(tmp_path / "kept"))
    instance, result = _run(home, ray_head, "in_files")
    assert result.success, [entry.message for entry in instance.all_logs(result.run_id)]
    assert (tmp_path / "kept").is_dir() and not list((tmp_path / "kept").rglob("*.value"))


def test_the_registry_does_not_unpickle_values(store: RayStore, tmp_path: Path) -> None:
    """So it runs no user code, and the class of a value need not be importable there."""
    import numpy as np

    class Tell:
        def __reduce__(self) -> Any:
            return (os.system, (f"echo $PPID >> {tmp_path}/loaded",))

    store.put(f"{SPACE}/tell/=", pack({"t": Tell(), "a": np.ones(1 << 20)}), True, None, {})
    assert not (tmp_path / "loaded").exists()
    loaded = unpack(store.get(f"{SPACE}/tell/="))
    assert (tmp_path / "loaded").read_text().split() == [str(os.getpid())]
    assert not loaded["a"].flags.owndata and not loaded["a"].flags.writeable


def test_the_registry_has_the_actor_name_of_earlier_releases(store: RayStore) -> None:
    import ray

    store.put(f"{SPACE}/there/=", pack(1), True, None, {})
    registry = ray.get_actor(DAGSTER_RAY_OBJECT_MAP_NAME, DAGSTER_RAY_NAMESPACE)
    assert ray.get(registry.process.remote()) in command_lines()
    assert store.delete([f"{SPACE}/there/="]) == 1


def _is_taken_over(key: str) -> bool:
    """Whether the node actor has put a value again, or has a copy of a small one."""
    import ray

    [node_actor] = _node_actors()
    _, items = ray.get(node_actor.inventory.remote())
    return key in [entry["key"] for _, entry, *_ in items]


def _node_actors() -> list[Any]:
    import ray

    named: list[Any] = ray.util.list_named_actors(all_namespaces=True)
    names = [actor["name"] for actor in named if actor["name"].startswith(NODE_ACTOR)]
    return [ray.get_actor(name, NAMESPACE) for name in names]


@pytest.mark.parametrize("end", ["kill", "ray.kill"])
def test_a_new_registry_knows_the_values_of_the_node_actors(store: RayStore, end: str) -> None:
    import numpy as np
    import ray

    array = np.arange(1 << 18)
    store.put(f"{SPACE}/small/=", pack(1), True, None, {})
    store.put(f"{SPACE}/large/=", pack(array), True, None, {"a": "b"})
    for key in (f"{SPACE}/small/=", f"{SPACE}/large/="):
        wait_for("the copy of the node actor", lambda key=key: _is_taken_over(key))
    stored = store.find(f"{SPACE}/")
    registry = ray.get_actor(REGISTRY, NAMESPACE)
    process: Any = ray.get(registry.process.remote())
    if end == "kill":
        os.kill(process, signal.SIGKILL)
    else:
        # Ray kills the actor asynchronously. Until then it would accept values that are lost.
        ray.kill(registry)
        wait_for("the end of the registry", lambda: process not in command_lines())
    assert store.find(f"{SPACE}/") == stored
    assert unpack(store.get(f"{SPACE}/small/=")) == 1
    assert (unpack(store.get(f"{SPACE}/large/=")) == array).all()
    store.put(f"{SPACE}/large/=", pack(2), True, None, {})
    assert unpack(store.get(f"{SPACE}/large/=")) == 2
    store.delete([entry["key"] for entry in stored])


def test_a_killed_node_actor_restarts_and_lost_values_are_reported(store: RayStore) -> None:
    import numpy as np
    import ray

    store.put(f"{SPACE}/before/=", pack(np.arange(1 << 18)), True, None, {})
    wait_for("the copy of the node actor", lambda: _is_taken_over(f"{SPACE}/before/="))
    [node_actor] = _node_actors()
    process: Any = ray.get(node_actor.process.remote())
    os.kill(process, signal.SIGKILL)

    def error() -> str:
        try:
            store.get(f"{SPACE}/before/=")
        except NotFoundError as error:
            return str(error)
        return ""

    # Ray reads the bytes until it has noticed the end of their owner.
    wait_for("the loss of the value", lambda: "was on node" in error())
    assert "was on node" in error()
    assert store.stat([f"{SPACE}/before/="]) == [None]
    store.put(f"{SPACE}/before/=", pack(2), True, None, {})
    assert unpack(store.get(f"{SPACE}/before/=")) == 2
    store.delete([f"{SPACE}/before/="])


STORE_AND_WAIT = f"""
import sys, time
import numpy as np
from dagster_ray.io.frames import pack
from dagster_ray.io.ray_store import RayStore
store = RayStore(sys.argv[1])
store.put("{SPACE}/acknowledged/=", pack(np.arange(1 << 22)), True, None, {{}})
print("stored", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("is_killed", [True, False])
def test_a_value_outlives_its_writer_before_it_is_put_again(
    store: RayStore, ray_head: RayHead, is_killed: bool
) -> None:
    """The bytes survive SIGKILL, and other values that fill the memory of the object store."""
    import numpy as np
    import ray

    store.put(f"{SPACE}/warm/=", pack(1), True, None, {})
    registry = ray.get_actor(REGISTRY, NAMESPACE)
    code = STORE_AND_WAIT if is_killed else STORE_AND_WAIT.replace("time.sleep(60)", "")
    with subprocess.Popen(
        [sys.executable, "-c", code, ray_head.gcs], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stdout.readline() == b"stored\n"
        # The second put is late, so that this test sees the state before it.
        found: Any = ray.get(registry.get.remote(f"{SPACE}/acknowledged/="))
        if is_killed:
            process.kill()
        process.wait()
    assert found["reference"] is None and found["parts"] is None
    others = [ray.put(np.full(1 << 22, number)) for number in range(8)]
    for _ in range(2):
        loaded = unpack(store.get(f"{SPACE}/acknowledged/="))
        assert (loaded == np.arange(1 << 22)).all()
        del loaded
    assert _is_taken_over(f"{SPACE}/acknowledged/=")
    del others
    # It is spilled like any other value.
    others = [ray.put(np.full(1 << 22, number)) for number in range(8)]
    assert (unpack(store.get(f"{SPACE}/acknowledged/=")) == np.arange(1 << 22)).all()
    del others
    store.delete([f"{SPACE}/acknowledged/=", f"{SPACE}/warm/="])


def test_an_overwritten_value_is_not_taken_over(store: RayStore) -> None:
    import numpy as np

    for number in range(3):
        store.put(f"{SPACE}/often/=", pack(np.full(1 << 18, number)), True, None, {})
    assert (unpack(store.get(f"{SPACE}/often/=")) == 2).all()
    assert store.delete([f"{SPACE}/often/="]) == 1
    wait_for("the end of the value", lambda: not _is_taken_over(f"{SPACE}/often/="))


def test_a_killed_writer_leaves_the_previous_value_in_a_directory(tmp_path: Path) -> None:
    writer = textwrap.dedent("""
        import sys, time
        import numpy as np
        from dagster_ray.io.directory_store import DirectoryStore
        from dagster_ray.io.frames import Frames, pack

        class Slow:
            def __iter__(self):
                whole = pack(np.ones(1 << 20)).parts
                yield whole[0]
                print("half", flush=True)
                time.sleep(60)
        store = DirectoryStore(sys.argv[1])
        pieces = Slow()
        store._files.write("asset/kept/=.value", pieces, True)
    """)
    store = DirectoryStore(str(tmp_path))
    store.put("asset/kept/=", pack("whole"), True, None, {})
    with subprocess.Popen(
        [sys.executable, "-c", writer, str(tmp_path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stdout.readline() == b"half\n"
        process.kill()
    assert unpack(store.get("asset/kept/=")) == "whole"
    [part] = tmp_path.rglob("*.part")
    assert [entry["key"] for entry in store.find("asset/")] == ["asset/kept/="]
    # The partial file is deleted once it is too old to have a live writer.
    os.utime(part, (0, 0))
    store.find("asset/")
    assert not part.exists()


def test_a_killed_writer_leaves_a_complete_value_in_the_registry(
    store: RayStore, ray_head: RayHead
) -> None:
    store.put(f"{SPACE}/large/=", pack("before"), True, None, {})
    writer = textwrap.dedent("""
        import sys
        import numpy as np
        from dagster_ray.io.frames import pack
        from dagster_ray.io.ray_store import RayStore
        store = RayStore(sys.argv[1])
        store.connect()
        print("go", flush=True)
        for digit in range(1, 1000):
            store.put(sys.argv[2], pack(np.full(1 << 24, digit)), True, None, {})
    """)
    for delay in (0.05, 0.3, 0.7):
        with subprocess.Popen(
            [sys.executable, "-c", writer, ray_head.gcs, f"{SPACE}/large/="], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout and process.stdout.readline() == b"go\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(delay)
            process.kill()
        loaded = unpack(store.get(f"{SPACE}/large/="))
        assert isinstance(loaded, str) or len(set(loaded[:: 1 << 10].tolist())) == 1
    store.delete([f"{SPACE}/large/="])


MATERIALIZE = """
import json, os, sys
import dagster as dg
import numpy as np
import ray
from dagster_ray import LocalRay, RayIOManager

@dg.asset
def made() -> np.ndarray:
    return np.arange(1 << 20)

@dg.asset
def taken(made: np.ndarray) -> None:
    assert made.sum() == sum(range(1 << 20))

@dg.asset(deps=[taken])
def on_ray(ray_: dg.ResourceParam[LocalRay], made: np.ndarray) -> int:
    return ray.get(ray.remote(lambda: 42).remote())

resources = {"io_manager": RayIOManager(**json.loads(sys.argv[1]))}
assets = [made, taken]
if len(sys.argv) > 2:
    assets.append(on_ray)
    resources["ray_"] = LocalRay(ray_init_options=json.loads(sys.argv[2]))
assert dg.materialize(assets, resources=resources).success
print("client" if ray.util.client.ray.is_connected() else "driver")
ray.shutdown()
"""


def _apart(*arguments: Any, **environment: str) -> str:
    """Materializes in a separate process, and returns `client` or `driver`: how it connected."""
    done = subprocess.run(
        [sys.executable, "-c", MATERIALIZE, *map(json.dumps, arguments)],
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.split()[-1]


def test_values_work_over_ray_client(ray_head: RayHead) -> None:
    def works() -> bool:
        # Ray's client server sometimes fails to start.
        try:
            return _apart({"address": ray_head.client}) == "client"
        except AssertionError as error:
            if "Starting Ray client server failed" not in str(error):
                raise
            return False

    wait_for("a connection over Ray Client", works, 200)


def test_values_work_with_local_ray_despite_a_stale_address_file(tmp_path: Path) -> None:
    """A killed Ray leaves `ray_current_cluster`; `ray.init` alone would wait for that cluster."""
    temporary = Path("/tmp", f"dr-{os.getpid()}")
    address_file = temporary / "ray" / "ray_current_cluster"
    address_file.parent.mkdir(parents=True)
    address_file.write_text("127.0.0.1:1")
    own = {"RAY_TMPDIR": str(temporary), "RAY_AUTH_MODE": "disabled"}
    try:
        options = {"num_cpus": 2, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        assert _apart({}, options, **own) == "driver"
    finally:
        subprocess.run(["rm", "-rf", str(temporary)], check=True)


def test_a_directory_can_be_a_url() -> None:
    store = DirectoryStore("memory://values")
    store.put("asset/a/=", pack({"n": 1}), True, None, {"k": "v"})
    store.put("asset/a/=x", pack({"n": 2}), False, None, {})
    assert unpack(store.get("asset/a/=")) == {"n": 1}
    assert [entry["key"] for entry in store.find("asset/a/=")] == ["asset/a/=", "asset/a/=x"]
    assert [bool(entry) for entry in store.stat(["asset/a/=", "asset/b/="])] == [True, False]
    assert store.delete(["asset/a/=", "asset/b/="]) == 1
    with pytest.raises(NotFoundError):
        store.get("asset/a/=")
