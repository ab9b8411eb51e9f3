"""Tests of the test cluster: the behavior of Kubernetes on which other tests rely."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import manifests
import pytest
from cluster import Cluster, RunningCluster
from kubernetes import client
from kubernetes.stream import portforward, stream
from processes import command_lines, descendants, wait_for


def start(cluster: Cluster, namespace: str, body: dict[str, Any]) -> str:
    cluster.core.create_namespaced_pod(namespace, body)
    return body["metadata"]["name"]


def in_phase(cluster: Cluster, namespace: str, name: str, phase: str) -> Any:
    core = cluster.core

    def look() -> Any:
        found = core.read_namespaced_pod(name, namespace)
        return found if found.status.phase == phase else None

    return wait_for(f"{name} {phase}", look)


def log(cluster: Cluster, namespace: str, name: str, **options: Any) -> str:
    response = cluster.core.read_namespaced_pod_log(
        name, namespace, _preload_content=False, **options
    )
    return response.data.decode()


def follow(cluster: Cluster, namespace: str, name: str) -> Iterator[str]:
    """Yields the lines of a log as they are written, until the log ends."""
    response = cluster.core.read_namespaced_pod_log(
        name, namespace, follow=True, _preload_content=False
    )
    partial = b""
    for piece in response.stream(amt=None, decode_content=True):
        *lines, partial = (partial + piece).split(b"\n")
        for line in lines:
            yield line.decode()


def waiting_reasons(cluster: Cluster, namespace: str, name: str, expected: str) -> set[str]:
    """Returns the reasons for which a container waited until one of them is `expected`."""
    seen: set[str] = set()
    core = cluster.core

    def look() -> bool:
        found = core.read_namespaced_pod(name, namespace)
        for status in found.status.container_statuses or []:
            if status.state.waiting:
                seen.add(status.state.waiting.reason)
        return expected in seen

    wait_for(expected, look, pause=0.05)
    return seen


def ray_state(cluster: Cluster, namespace: str, plural: str, name: str) -> dict[str, Any]:
    found = cluster.custom.get_namespaced_custom_object("ray.io", "v1", namespace, plural, name)
    return found.get("status") or {}


def create_ray(cluster: Cluster, namespace: str, plural: str, body: dict[str, Any]) -> str:
    cluster.custom.create_namespaced_custom_object("ray.io", "v1", namespace, plural, body)
    return body["metadata"]["name"]


def cluster_ready(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        status = ray_state(cluster, namespace, "rayclusters", name)
        return status if status.get("state") == "ready" else None

    return wait_for(f"{name} ready", look, 120)


def test_kuberay_is_installed(cluster: Cluster) -> None:
    api: Any = client.ApiextensionsV1Api(cluster.api())
    names = {one.metadata.name for one in api.list_custom_resource_definition().items}
    assert {"rayclusters.ray.io", "rayjobs.ray.io", "rayservices.ray.io"} <= names


def test_a_pod_has_its_environment_volumes_and_init_containers(
    cluster: Cluster, namespace: str
) -> None:
    cluster.core.create_namespaced_config_map(
        namespace, {"metadata": {"name": "settings"}, "data": {"greeting": "hello"}}
    )
    shared = {"name": "shared", "mountPath": "/shared"}
    body = manifests.pod(
        "whole",
        cluster.image,
        "cat /shared/order /etc/settings/greeting; echo; echo $IP $(hostname -i); echo $MESSAGE",
        container={
            "env": [
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "MESSAGE", "value": "I am $(NAME)"},
            ],
            "volumeMounts": [shared, {"name": "settings", "mountPath": "/etc/settings"}],
        },
        initContainers=[
            {
                "name": name,
                "image": cluster.image,
                "command": ["bash", "-c", f"sleep {pause}; echo {name} >> /shared/order"],
                "volumeMounts": [shared],
            }
            for name, pause in (("first", 0.5), ("second", 0))
        ],
        volumes=[
            {"name": "shared", "emptyDir": {}},
            {"name": "settings", "configMap": {"name": "settings"}},
        ],
    )
    start(cluster, namespace, body)
    done = in_phase(cluster, namespace, "whole", "Succeeded")
    address = done.status.pod_ip
    assert log(cluster, namespace, "whole").splitlines() == [
        *("first", "second", "hello", f"{address} {address}", "I am whole"),
    ]


def test_a_container_cannot_write_to_files_of_the_machine(
    own_cluster: Cluster, namespace: str
) -> None:
    script = f"echo x > /tmp/mine && echo x > /etc/mine && ! touch {Path(__file__).parent}/outside"
    start(own_cluster, namespace, manifests.pod("contained", own_cluster.image, script))
    in_phase(own_cluster, namespace, "contained", "Succeeded")
    assert not Path("/etc/mine").exists()
    assert not (Path(__file__).parent / "outside").exists()


def test_logs_exec_and_port_forward(cluster: Cluster, namespace: str) -> None:
    script = "echo begun; printf half; sleep 1; echo whole; python -u -m http.server 8000"
    name = start(cluster, namespace, manifests.pod("served", cluster.image, script))
    in_phase(cluster, namespace, name, "Running")

    lines = follow(cluster, namespace, name)
    assert [next(lines), next(lines)] == ["begun", "halfwhole"]
    assert next(lines).startswith("Serving")
    assert log(cluster, namespace, name, tail_lines=1).startswith("Serving")

    def run(argv: list[str], **options: Any) -> Any:
        return stream(
            cluster.core.connect_get_namespaced_pod_exec,
            name,
            namespace,
            command=argv,
            stdout=True,
            stderr=True,
            _preload_content=False,
            **options,
        )

    session = run(["bash", "-c", "read line; echo got $line; echo bad >&2; exit 3"], stdin=True)
    session.write_stdin("this\n")
    session.run_forever(timeout=10)
    assert (session.read_stdout(), session.read_stderr()) == ("got this\n", "bad\n")
    assert session.returncode == 3

    forward = portforward(
        cluster.core.connect_get_namespaced_pod_portforward, name, namespace, ports="8000"
    )
    connection = forward.socket(8000)
    connection.settimeout(10)
    connection.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
    assert b"".join(iter(lambda: connection.recv(4096), b"")).startswith(b"HTTP/1.0 200")
    connection.close()


def test_a_deleted_pod_gets_sigterm_and_is_killed_after_its_grace_period(
    cluster: Cluster, namespace: str
) -> None:
    script = (
        "trap 'echo signaled; sleep 1; echo done; exit 0' TERM; echo up; while :; do sleep .1; done"
    )
    handles_sigterm = start(
        cluster, namespace, manifests.pod("handles-sigterm", cluster.image, script)
    )
    ignores_sigterm = start(
        cluster,
        namespace,
        manifests.pod("ignores-sigterm", cluster.image, "trap '' TERM; sleep 99"),
    )
    lines: list[str] = []
    for name in (handles_sigterm, ignores_sigterm):
        in_phase(cluster, namespace, name, "Running")
    follower = threading.Thread(
        target=lambda: lines.extend(follow(cluster, namespace, handles_sigterm))
    )
    follower.start()
    wait_for("the first line", lambda: "up" in lines)
    began = time.monotonic()
    cluster.core.delete_namespaced_pod(handles_sigterm, namespace)
    cluster.core.delete_namespaced_pod(ignores_sigterm, namespace, grace_period_seconds=2)
    wait_for("the end of both pods", lambda: not cluster.core.list_namespaced_pod(namespace).items)
    assert time.monotonic() - began < 10
    follower.join(10)
    assert lines == ["up", "signaled", "done"]


def test_a_failing_container_is_restarted_in_place(cluster: Cluster, namespace: str) -> None:
    body = manifests.pod("crash", cluster.image, "echo run; exit 4", restartPolicy="Always")
    name = start(cluster, namespace, body)
    waiting_reasons(cluster, namespace, name, "CrashLoopBackOff")
    found = cluster.core.read_namespaced_pod(name, namespace)
    assert found.status.phase == "Running"
    status = found.status.container_statuses[0]
    assert status.restart_count >= 1
    assert status.last_state.terminated.exit_code == 4
    assert "run" in log(cluster, namespace, name, previous=True)


def test_a_killed_container_is_restarted(own_cluster: Cluster, namespace: str) -> None:
    body = manifests.pod("killed", own_cluster.image, "sleep 99", restartPolicy="Always")
    name = start(own_cluster, namespace, body)
    in_phase(own_cluster, namespace, name, "Running")
    own_cluster.kill_containers(namespace, name)

    def look() -> Any:
        status = own_cluster.core.read_namespaced_pod(name, namespace).status.container_statuses[0]
        return status if status.restart_count and status.state.running else None

    assert wait_for("the restart", look).last_state.terminated.exit_code == 137


def test_a_pod_with_a_missing_image_waits_with_image_pull_back_off(
    cluster: Cluster, namespace: str
) -> None:
    name = start(
        cluster, namespace, manifests.pod("missing", "docker.io/x/does-not-exist:1", "true")
    )
    waiting_reasons(cluster, namespace, name, "ImagePullBackOff")
    assert cluster.core.read_namespaced_pod(name, namespace).status.phase == "Pending"


def test_a_pod_with_too_large_requests_is_unschedulable(cluster: Cluster, namespace: str) -> None:
    resources = {"requests": {"cpu": "4000"}}
    body = manifests.pod("huge", cluster.image, "true", container={"resources": resources})
    name = start(cluster, namespace, body)

    def look() -> Any:
        found = cluster.core.read_namespaced_pod(name, namespace)
        return next((one for one in found.status.conditions or [] if one.status == "False"), None)

    condition = wait_for("a condition", look)
    assert (condition.type, condition.reason) == ("PodScheduled", "Unschedulable")
    assert "Insufficient cpu" in condition.message
    assert cluster.core.read_namespaced_pod(name, namespace).status.phase == "Pending"


def test_a_pod_waits_until_its_config_map_exists(cluster: Cluster, namespace: str) -> None:
    source = [{"configMapRef": {"name": "late"}}]
    body = manifests.pod("waits", cluster.image, "echo $WORD", container={"envFrom": source})
    name = start(cluster, namespace, body)
    waiting_reasons(cluster, namespace, name, "CreateContainerConfigError")
    cluster.core.create_namespaced_config_map(
        namespace, {"metadata": {"name": "late"}, "data": {"WORD": "here"}}
    )
    in_phase(cluster, namespace, name, "Succeeded")
    assert log(cluster, namespace, name) == "here\n"


def test_a_ray_cluster_with_a_worker_becomes_ready(cluster: Cluster, namespace: str) -> None:
    body = manifests.ray_cluster("small", cluster.image, workers=1)
    create_ray(cluster, namespace, "rayclusters", body)
    status = cluster_ready(cluster, namespace, "small")
    assert status["readyWorkerReplicas"] == 1
    if cluster.is_own:
        service = f"small-head-svc.{namespace}.svc"
        url = f"http://{service}:8265/api/version"
        program = f"import urllib.request as r; print(r.urlopen('{url}').read())"
        assert "ray_version" in cluster.run_inside(["python3", "-c", program]).stdout
    cluster.custom.delete_namespaced_custom_object(
        "ray.io", "v1", namespace, "rayclusters", "small"
    )
    wait_for("no pods", lambda: not cluster.core.list_namespaced_pod(namespace).items)


def test_a_ray_job_completes(cluster: Cluster, namespace: str) -> None:
    entrypoint = (
        'python -c "import ray; ray.init(); print(ray.get(ray.remote(lambda: 6 * 7).remote()))"'
    )
    create_ray(cluster, namespace, "rayjobs", manifests.ray_job("sum", cluster.image, entrypoint))

    def look() -> dict[str, Any] | None:
        status = ray_state(cluster, namespace, "rayjobs", "sum")
        return status if status.get("jobDeploymentStatus") in ("Complete", "Failed") else None

    status = wait_for("the job's end", look, 200)
    assert (status["jobDeploymentStatus"], status["jobStatus"]) == ("Complete", "SUCCEEDED")


@pytest.mark.parametrize("program", ["kube-apiserver", "kuberay-operator", "etcd"])
def test_pods_and_clusters_survive_a_killed_program(
    own_cluster: Cluster, namespace: str, program: str
) -> None:
    pod = start(own_cluster, namespace, manifests.pod("steady", own_cluster.image, "sleep 99"))
    in_phase(own_cluster, namespace, pod, "Running")
    create_ray(
        own_cluster, namespace, "rayclusters", manifests.ray_cluster("small", own_cluster.image)
    )
    time.sleep(1)
    if program == "kuberay-operator":
        own_cluster.restart_operator()
    elif program == "kube-apiserver":
        own_cluster.restart_apiserver()
    else:
        own_cluster.kill_program(program)
        own_cluster.wait_for_apiserver()
    wait_for("the API", lambda: _api_is_up(own_cluster, namespace))
    cluster_ready(own_cluster, namespace, "small")
    found = own_cluster.core.read_namespaced_pod(pod, namespace)
    assert found.status.phase == "Running"
    assert found.status.container_statuses[0].restart_count == 0
    late = start(own_cluster, namespace, manifests.pod("late", own_cluster.image, "true"))
    in_phase(own_cluster, namespace, late, "Succeeded")


def _api_is_up(cluster: Cluster, namespace: str) -> bool:
    try:
        return bool(cluster.core.list_namespaced_pod(namespace, _request_timeout=5))
    except Exception:
        # The client raises many kinds of errors while the server restarts.
        return False


def test_requests_are_counted_by_client(own_cluster: Cluster, namespace: str) -> None:
    api = own_cluster.api()
    api.user_agent = f"counted-{namespace}"
    core = client.CoreV1Api(api)
    for _ in range(3):
        core.list_namespaced_pod(namespace)
    seen = wait_for(
        "three requests",
        lambda: (found := own_cluster.requests(f"counted-{namespace}"))[2:] and found,
    )
    assert [one["verb"] for one in seen] == ["list"] * 3


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_remains_of_a_stopped_or_killed_cluster(
    own_cluster: Cluster, tmp_path: Path, end: signal.Signals
) -> None:
    running = RunningCluster(tmp_path / "cluster.log")
    cluster = running.cluster()
    start(cluster, "default", manifests.pod("left", cluster.image, "sleep 12345"))
    in_phase(cluster, "default", "left", "Running")
    pids = descendants(running.process.pid)
    assert any("sleep 12345" in line for pid, line in command_lines().items() if pid in pids)
    os.kill(running.process.pid, end)
    wait_for("the end of all processes", lambda: not pids & command_lines().keys())
    running.process.wait(60)
    if end == signal.SIGTERM:
        assert not cluster.kubeconfig.parent.exists()
