"""Fixtures with one Kubernetes cluster with the KubeRay operator for each pytest session.

The first of these that applies is used:

- a user's cluster: `--kubeconfig PATH`;
- a test cluster that is running: `DAGSTER_RAY_TEST_CLUSTER` names its ready.json
  (`cargo xtask cluster up` prints the line);
- a test cluster that is started here and stopped at the end of the session.

In a conftest.py: `from cluster import cluster, namespace, own_cluster, pytest_addoption`.
"""

import contextlib
import http.client
import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

REPOSITORY = Path(__file__).parents[2]
RUNNING = "DAGSTER_RAY_TEST_CLUSTER"
# The name of a namespace that the tests of several sessions use.
SHARED_NAMESPACE = "DAGSTER_RAY_TEST_NAMESPACE"
# Seconds. The first start may build the control plane.
START_LIMIT = 40 * 60


def pytest_addoption(parser: pytest.Parser) -> None:
    # The conftest.py of two folders may both register the option.
    with contextlib.suppress(ValueError):
        parser.addoption(
            "--kubeconfig",
            help="run the tests on your own cluster, with the KubeRay operator in it",
        )


@dataclass(frozen=True)
class Own:
    """The process, sockets and files of a test cluster, which a user's cluster does not have."""

    pid: int
    kubeconfig_inside: Path
    control: Path
    kubelet_control: Path
    audit_log: Path
    logs: Path


class Cluster:
    """Access to a cluster, and ways to break a test cluster."""

    image = "rayproject/ray:2.60.0"
    """A test cluster treats all images alike. A user's cluster pulls this one."""

    def __init__(self, kubeconfig: Path, own: Own | None) -> None:
        self.kubeconfig = kubeconfig
        self._own = own

    @property
    def own(self) -> Own:
        assert self._own, "this needs a test cluster: leave out --kubeconfig"
        return self._own

    @property
    def is_own(self) -> bool:
        return self._own is not None

    def api(self) -> client.ApiClient:
        """Returns a client with its own connections, because `exec` modifies its client."""
        return config.new_client_from_config(str(self.kubeconfig))

    # `Any`, because the client's annotations are unions of everything that a call can return.

    @property
    def core(self) -> Any:
        return client.CoreV1Api(self.api())

    @property
    def custom(self) -> Any:
        return client.CustomObjectsApi(self.api())

    def programs(self) -> dict[str, dict[str, Any]]:
        """Returns the pid (inside the namespaces) and the restart count of each program by name."""
        return json.loads(_request(self.own.control, "GET", "/programs"))

    def kill_program(self, name: str) -> None:
        """Sends SIGKILL to a program. The cluster starts it again."""
        _request(self.own.control, "POST", f"/programs/{name}/kill")

    def stop_program(self, name: str) -> None:
        """Sends SIGTERM to a program, which is not started again until `start_program`."""
        _request(self.own.control, "POST", f"/programs/{name}/stop")

    def start_program(self, name: str) -> None:
        _request(self.own.control, "POST", f"/programs/{name}/start")

    def restart_apiserver(self) -> None:
        """Kills the API server, and returns when a new one responds."""
        self._restart("kube-apiserver")
        self.wait_for_apiserver()

    def restart_operator(self) -> None:
        """Kills the KubeRay operator, and returns when a new one is running."""
        self._restart("kuberay-operator")

    def _restart(self, name: str) -> None:
        before = self.programs()[name]["pid"]
        self.kill_program(name)
        deadline = time.monotonic() + 30
        while (now := self.programs()[name])["pid"] in (0, before):
            assert time.monotonic() < deadline, f"{name} was not started again: {now}"
            time.sleep(0.05)

    def wait_for_apiserver(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                client.VersionApi(self.api()).get_code(_request_timeout=5)
                return
            except Exception:
                # The client raises many kinds of errors while the server is down.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def kill_containers(self, namespace: str, pod: str, container: str = "") -> None:
        """Sends SIGKILL to all containers of a pod, or to one, as the OOM killer does."""
        query = f"?container={container}" if container else ""
        _request(self.own.kubelet_control, "POST", f"/pods/{namespace}/{pod}/kill{query}")

    def requests(self, user_agent: str) -> list[dict[str, Any]]:
        """Returns the audit events of clients whose User-Agent has this prefix, oldest first.

        There is one event for each request. A watch is logged when it begins.
        """
        found: dict[str, dict[str, Any]] = {}
        with self.own.audit_log.open() as lines:
            for line in lines:
                # The last line may be incomplete.
                if not line.endswith("\n"):
                    continue
                event = json.loads(line)
                if event.get("userAgent", "").startswith(user_agent):
                    found.setdefault(event["auditID"], event)
        return list(found.values())

    def inside(self, argv: list[str]) -> list[str]:
        """Returns the command line that runs `argv` in the cluster's namespaces as root.

        There, `*.svc` names resolve, pod addresses are reachable, and KUBECONFIG is set.
        """
        own = self.own
        return [
            *("nsenter", "--preserve-credentials", "-U", "-n", "-m", "-p", "-i", "-u"),
            *("-t", str(own.pid), "env", f"KUBECONFIG={own.kubeconfig_inside}", *argv),
        ]

    def run_inside(self, argv: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs a command in the cluster's namespaces, and asserts that it succeeds."""
        options = {"capture_output": True, "text": True, "timeout": 120, **options}
        done = subprocess.run(self.inside(argv), check=False, **options)
        assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done


class _Socket(http.client.HTTPConnection):
    """An HTTP connection over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _request(path: Path, method: str, target: str) -> bytes:
    connection = _Socket(path)
    try:
        connection.request(method, target)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    assert response.status == 200, f"{method} {target}: {response.status} {body.decode()}"
    return body


class RunningCluster:
    """A test cluster that this process starts and stops."""

    def __init__(self, log: Path) -> None:
        self.log = log
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                # `-until-eof` stops the cluster when the end of this process closes the pipe.
                ["cargo", "xtask", "cluster", "up", "--", "-json", "-until-eof"],
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        killer = _after(START_LIMIT, self.process.kill)
        assert self.process.stdout
        line = self.process.stdout.readline()
        killer.cancel()
        assert line, f"the cluster did not start:\n{log.read_text()[-4000:]}"
        self.facts: dict[str, Any] = json.loads(line)

    def cluster(self) -> Cluster:
        return from_facts(self.facts)

    def stop(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        try:
            self.process.wait(30)
        finally:
            self.process.kill()


def _after(seconds: float, action: Any) -> Any:
    from threading import Timer

    timer = Timer(seconds, action)
    timer.daemon = True
    timer.start()
    return timer


def from_facts(facts: dict[str, Any]) -> Cluster:
    """Returns the cluster that a ready.json describes."""
    own = Own(
        pid=facts["pid"],
        **{
            name: Path(facts[name])
            for name in ("kubeconfig_inside", "control", "kubelet_control", "audit_log", "logs")
        },
    )
    return Cluster(Path(facts["kubeconfig"]), own)


@pytest.fixture(scope="session")
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    if users := request.config.getoption("--kubeconfig"):
        yield Cluster(Path(users).resolve(), None)
    elif running := os.environ.get(RUNNING):
        yield from_facts(json.loads(Path(running).read_text()))
    else:
        started = RunningCluster(tmp_path_factory.mktemp("cluster") / "cluster.log")
        try:
            yield started.cluster()
        finally:
            started.stop()


@pytest.fixture
def own_cluster(cluster: Cluster) -> Cluster:
    """The session's cluster, if it is a test cluster, which a test may break."""
    if not cluster.is_own:
        pytest.skip("would break the cluster that --kubeconfig names")
    return cluster


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """Creates a namespace for the test, with its service account, and deletes it afterwards.

    If a variable names the namespace of several sessions, it is created once, and stays.
    """
    shared = os.environ.get(SHARED_NAMESPACE)
    name = shared or f"test-{secrets.token_hex(4)}"
    core = cluster.core
    try:
        core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name)))
    except client.ApiException as error:
        if not shared or error.status != 409:
            raise
    deadline = time.monotonic() + 30
    while True:
        try:
            core.read_namespaced_service_account("default", name)
            break
        except client.ApiException as missing:
            if missing.status != 404 or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    yield name
    if not shared:
        cluster.wait_for_apiserver()
        core.delete_namespace(name)
