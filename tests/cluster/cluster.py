"""A Kubernetes cluster with the KubeRay operator, one for the session.

It is one of these, the first that is named:

- the user's own: `--kubeconfig PATH`;
- one that runs already: `DAGSTER_RAY_TEST_CLUSTER` names its ready.json (`cargo xtask cluster up`
  prints the line);
- one of the session's own, started here and ended with it.

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
# A cold build of the control plane, and then some.
START_LIMIT = 40 * 60


def pytest_addoption(parser: pytest.Parser) -> None:
    # Two folders of tests may both use this module.
    with contextlib.suppress(ValueError):
        parser.addoption(
            "--kubeconfig",
            help="run the tests on your own cluster, with the KubeRay operator in it",
        )


@dataclass(frozen=True)
class Own:
    """What only a cluster of the tests' own has."""

    pid: int
    kubeconfig_inside: Path
    control: Path
    kubelet_control: Path
    audit_log: Path
    logs: Path


class Cluster:
    """A cluster, as tests use it."""

    image = "rayproject/ray:2.60.0"
    """Any image is the same on a cluster of the tests' own; on another, this one is pulled."""

    def __init__(self, kubeconfig: Path, own: Own | None) -> None:
        self.kubeconfig = kubeconfig
        self._own = own

    @property
    def own(self) -> Own:
        assert self._own, "this needs a cluster of the tests' own"
        return self._own

    @property
    def is_own(self) -> bool:
        return self._own is not None

    def api(self) -> client.ApiClient:
        """A client with connections of its own: `exec` changes the one that it is given."""
        return config.new_client_from_config(str(self.kubeconfig))

    # The client's own types say that every answer may be anything it ever answers.

    @property
    def core(self) -> Any:
        return client.CoreV1Api(self.api())

    @property
    def custom(self) -> Any:
        return client.CustomObjectsApi(self.api())

    # Breaking it.

    def programs(self) -> dict[str, dict[str, Any]]:
        """The control plane's programs: their process ids (inside) and how often they ended."""
        return json.loads(_ask(self.own.control, "GET", "/programs"))

    def kill_program(self, name: str) -> None:
        """SIGKILL; the cluster starts it again."""
        _ask(self.own.control, "POST", f"/programs/{name}/kill")

    def stop_program(self, name: str) -> None:
        """SIGTERM; it stays away until it is started."""
        _ask(self.own.control, "POST", f"/programs/{name}/stop")

    def start_program(self, name: str) -> None:
        _ask(self.own.control, "POST", f"/programs/{name}/start")

    def restart_apiserver(self) -> None:
        """Kills the API server, and returns when it answers again."""
        self._restart("kube-apiserver")
        self.wait_for_apiserver()

    def restart_operator(self) -> None:
        """Kills the KubeRay operator, and returns when a new one runs."""
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
                # Whatever a client makes of a server that is not there yet.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def kill_containers(self, namespace: str, pod: str, container: str = "") -> None:
        """SIGKILL to a pod's containers, or to one: what the OOM killer does."""
        query = f"?container={container}" if container else ""
        _ask(self.own.kubelet_control, "POST", f"/pods/{namespace}/{pod}/kill{query}")

    # Looking into it.

    def requests(self, user_agent: str) -> list[dict[str, Any]]:
        """The API requests of the clients whose User-Agent begins so, each once, oldest first.

        A watch counts when it begins.
        """
        found: dict[str, dict[str, Any]] = {}
        with self.own.audit_log.open() as lines:
            for line in lines:
                # The last line may be half written.
                if not line.endswith("\n"):
                    continue
                event = json.loads(line)
                if event.get("userAgent", "").startswith(user_agent):
                    found.setdefault(event["auditID"], event)
        return list(found.values())

    # Going into it.

    def inside(self, argv: list[str]) -> list[str]:
        """The command that runs another one in the cluster's network, where `*.svc` names and the
        pods' addresses work, as Kubernetes' own root."""
        own = self.own
        return [
            *("nsenter", "--preserve-credentials", "-U", "-n", "-m", "-p", "-i", "-u"),
            *("-t", str(own.pid), "env", f"KUBECONFIG={own.kubeconfig_inside}", *argv),
        ]

    def run_inside(self, argv: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs a command inside, and fails with its output if it fails."""
        options = {"capture_output": True, "text": True, "timeout": 120, **options}
        done = subprocess.run(self.inside(argv), check=False, **options)
        assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done


class _Socket(http.client.HTTPConnection):
    """HTTP on a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _ask(path: Path, method: str, target: str) -> bytes:
    connection = _Socket(path)
    try:
        connection.request(method, target)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    assert answer.status == 200, f"{method} {target}: {answer.status} {body.decode()}"
    return body


class RunningCluster:
    """A cluster of our own, from its start to its end."""

    def __init__(self, log: Path) -> None:
        self.log = log
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                # Without this process its standard input ends, and with it the cluster.
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
    """A cluster from what it tells when it is ready."""
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
    """A cluster that may be broken."""
    if not cluster.is_own:
        pytest.skip("would break the cluster that --kubeconfig names")
    return cluster


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own, ready for pods."""
    name = f"test-{secrets.token_hex(4)}"
    core = cluster.core
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name)))
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
    cluster.wait_for_apiserver()
    core.delete_namespace(name)
