"""`PipesKubeRayJobClient` on a real Kubernetes control plane."""

import json
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import certificates
import dagster as dg
import pytest
import yaml
from cluster import Cluster
from dagster_ray.contract import PipesClient
from dagster_ray.errors import CallTimeoutError, InvalidConfigError, ScriptFailedError
from dagster_ray.kuberay import PipesKubeRayJobClient, RayJobClient
from fault_proxy import FaultProxy
from irregular_output import IRREGULAR_OUTPUT, assert_complete
from kube_objects import cluster_spec, names
from processes import wait_for


@pytest.fixture
def client(cluster: Cluster) -> PipesKubeRayJobClient:
    return PipesKubeRayJobClient(RayJobClient(kube_config=str(cluster.kubeconfig)))


def _entrypoint(folder: Path, body: str) -> str:
    file = folder / "script.py"
    file.write_text(textwrap.dedent(body))
    return f"{sys.executable} {file}"


def _ray_job(
    cluster: Cluster, namespace: str, folder: Path, entrypoint: str | None, **spec: Any
) -> dict[str, Any]:
    made: dict[str, Any] = {"rayClusterSpec": cluster_spec(cluster, folder), **spec}
    if entrypoint is not None:
        made["entrypoint"] = entrypoint
    return {"metadata": {"namespace": namespace}, "spec": made}


def _run(
    client: PipesKubeRayJobClient, cluster: Cluster, **arguments: Any
) -> tuple[dg.ExecuteInProcessResult, list[Any]]:
    custom: list[Any] = []

    @dg.asset
    def scripted(context: dg.AssetExecutionContext):
        done = client.run(context=context, **arguments)
        custom.extend(done.get_custom_messages())
        return done.get_results()

    job = dg.Definitions(assets=[scripted]).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(tags={"dagster/image": cluster.image}), custom


@pytest.mark.timeout(200)
def test_messages_and_output_arrive_completely_and_once(
    client: PipesKubeRayJobClient,
    cluster: Cluster,
    namespace: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    body = """
        import os
        from dagster_pipes import open_dagster_pipes

        with open_dagster_pipes() as context:
            assert os.environ["SPEED"] == "1"
            for number in range(500):
                context.report_custom_message(number)
                print("line", number)
    """
    parameters = {
        "entrypoint": _entrypoint(tmp_path, body),
        "entrypoint_num_cpus": 0.5,
        "metadata": {"team": "x"},
    }
    # The README of PyPI's package spells the field like this.
    runtime_env = {"runtimeEnvYaml": yaml.safe_dump({"env_vars": {"SPEED": "1"}})}
    ray_job = _ray_job(cluster, namespace, tmp_path, None, **runtime_env)
    before = repr((parameters, ray_job))
    result, custom = _run(client, cluster, submit_job_params=parameters, ray_job=ray_job)
    assert repr((parameters, ray_job)) == before
    assert custom == list(range(500))
    out = capfd.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("line ")] == [
        f"line {number}" for number in range(500)
    ]
    [event] = result.asset_materializations_for_node("scripted")
    assert str(event.metadata["RayJob"].value).startswith(f"{namespace}/dg-script-")
    # The cluster starts before the script.
    queued = event.metadata["Ray Queue Seconds"].value
    assert isinstance(queued, float) and queued > 1
    table = event.metadata["Ray Events"]
    assert isinstance(table, dg.TableMetadataValue)
    assert [record.data["event"] for record in table.records], "the states of the RayJob"


@pytest.mark.timeout(300)
def test_messages_and_output_survive_a_broken_port_forward(
    client: PipesKubeRayJobClient,
    own_cluster: Cluster,
    namespace: str,
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    begun, done = tmp_path / "begun", threading.Event()
    body = textwrap.dedent(IRREGULAR_OUTPUT.format(messages=300, lines=3, pause=0.05))
    entrypoint = _entrypoint(tmp_path, f"open({str(begun)!r}, 'w')\n{body}")

    def break_connections() -> None:
        wait_for("the script", begun.exists, 120)
        # Every connection to a pod goes through the API server and breaks when it restarts.
        own_cluster.restart_apiserver()
        done.set()

    trouble = threading.Thread(target=break_connections, daemon=True)
    trouble.start()
    _, custom = _run(
        client, own_cluster, ray_job=_ray_job(own_cluster, namespace, tmp_path, entrypoint)
    )
    assert done.is_set()
    assert_complete(custom, capfdbinary.readouterr().out, 300, 3)


@pytest.mark.timeout(200)
def test_a_failed_script_raises_an_error_and_an_aborted_one_is_deleted(
    client: PipesKubeRayJobClient, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    entrypoint = _entrypoint(tmp_path, "raise SystemExit(3)")
    with pytest.raises(ScriptFailedError) as failure:
        _run(client, cluster, ray_job=_ray_job(cluster, namespace, tmp_path, entrypoint))
    assert failure.value.state == "failed"

    class GivesUp(Exception):
        pass

    class Reader(dg.PipesFileMessageReader):
        """Raises as soon as the job is launched."""

        def on_launched(self, params: Any) -> None:
            raise GivesUp

    quits = PipesKubeRayJobClient(client.client, message_reader=Reader(str(tmp_path / "messages")))
    endless = _entrypoint(tmp_path, "import time; time.sleep(600)")
    with pytest.raises(GivesUp):
        _run(quits, cluster, ray_job=_ray_job(cluster, namespace, tmp_path, endless))
    running = names(cluster, namespace, "rayjobs")
    # The RayJob of the failed script stays until its ttl is over.
    assert len(running) == 1


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_a_retried_script_is_followed_from_the_beginning_of_its_second_execution(
    client: PipesKubeRayJobClient,
    cluster: Cluster,
    namespace: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """KubeRay runs a failed script again, with the same id on a new RayCluster.

    In HTTPMode, it does so at once. In K8sJobMode, the submitter's own retries come first.
    """
    begun = tmp_path / "begun"
    body = f"""
        import pathlib
        from dagster_pipes import open_dagster_pipes

        begun = pathlib.Path({str(begun)!r})
        first = not begun.exists()
        begun.touch()
        with open_dagster_pipes() as context:
            # The second log is shorter than the first.
            for number in range(20 if first else 5):
                print("first" if first else "second", number)
            context.report_custom_message("first" if first else "second")
        raise SystemExit(3 if first else 0)
    """
    ray_job = _ray_job(
        cluster,
        namespace,
        tmp_path,
        _entrypoint(tmp_path, body),
        backoffLimit=1,
        submissionMode="HTTPMode",
    )
    result, custom = _run(client, cluster, ray_job=ray_job)
    assert result.success and custom == ["first", "second"]
    captured = capfd.readouterr()
    lines = [
        line for line in captured.out.splitlines() if line.split(" ")[0] in ("first", "second")
    ]
    expected = [f"first {number}" for number in range(20)]
    assert lines == expected + [f"second {number}" for number in range(5)]
    assert captured.err.count("the script runs again, on the RayCluster") == 1


@pytest.mark.nightly
@pytest.mark.timeout(200)
def test_a_script_whose_cluster_is_deleted_at_once_does_not_hang(
    client: PipesKubeRayJobClient, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    entrypoint = _entrypoint(tmp_path, "print('a line')")
    ray_job = _ray_job(
        *(cluster, namespace, tmp_path, entrypoint),
        shutdownAfterJobFinishes=True,
        ttlSecondsAfterFinished=1,
    )
    result, _ = _run(client, cluster, ray_job=ray_job)
    assert result.success
    # A second look at the script finds its RayJob, but not its cluster.
    [name] = names(cluster, namespace, "rayjobs")
    wait_for("no cluster", lambda: not names(cluster, namespace, "rayclusters"), 60)
    details = json.dumps({"kind": "RayJob", "namespace": namespace, "name": name})
    job = {"submission_id": name, "dashboard_url": None, "details": details}
    lines: list[str] = []
    pipes = PipesClient(client.backend)

    def write(level: str, message: str) -> None:
        lines.append(message)

    assert pipes.follow(job, None, write=write, timeout=60)["complete"]  # type: ignore[arg-type]
    assert any("may be missing" in line for line in lines), lines


@pytest.mark.nightly
@pytest.mark.timeout(200)
def test_output_is_read_through_an_ingress_with_its_own_authentication(
    client: PipesKubeRayJobClient, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    authority = certificates.authority(tmp_path, "private")
    body = """
        from dagster_pipes import open_dagster_pipes

        with open_dagster_pipes() as context:
            context.report_custom_message("through the ingress")
    """
    ray_job = _ray_job(cluster, namespace, tmp_path, _entrypoint(tmp_path, body))
    ray_job["metadata"]["name"] = "behind-an-ingress"
    jobs, done = client.client, threading.Event()

    def lead(ingress: FaultProxy) -> None:
        """Lets the ingress lead to the dashboard, once the cluster runs."""

        def created() -> str | None:
            return jobs.get_ray_cluster_name("behind-an-ingress", namespace)

        name = wait_for("the cluster", created, 60)
        clusters = jobs.ray_cluster_client
        clusters.wait_until_ready(name, namespace)
        with clusters.port_forward(name, namespace) as (port, _):
            ingress.redirect(f"http://127.0.0.1:{port}")
            done.wait(120)

    tls = certificates.server(tmp_path, authority)
    with FaultProxy.start("http://127.0.0.1:9", tls) as ingress:
        through = PipesKubeRayJobClient(
            jobs,
            address=ingress.url,
            headers={"X-Auth": "of the client"},
            cookies={"session": "secret"},
            verify=str(authority.file),
        )
        leads = threading.Thread(target=lead, args=(ingress,), daemon=True)
        leads.start()
        try:
            headers = {"X-Auth": "of the run"}
            _, custom = _run(through, cluster, ray_job=ray_job, headers=headers)
        finally:
            done.set()
            leads.join(10)
        assert custom == ["through the ingress"]
        assert ingress.recorded("GET", "/api/v0/logs/stream.*")
        sent = {(one.headers.get("x-auth"), one.headers.get("cookie")) for one in ingress.requests}
    assert sent == {("of the run", "session=secret")}


def test_an_address_must_be_a_url(client: PipesKubeRayJobClient) -> None:
    with pytest.raises(InvalidConfigError, match="is not a URL"):
        assert PipesKubeRayJobClient(client.client, address="ray://head:10001").backend.url


@pytest.mark.nightly
@pytest.mark.timeout(120)
def test_a_script_whose_cluster_does_not_start_in_time_is_deleted(
    client: PipesKubeRayJobClient, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    ray_job = _ray_job(cluster, namespace, tmp_path, "true")
    pod = ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    [container] = pod["containers"]
    waits = {"name": "waits", "image": cluster.image, "command": ["sleep", "600"]}
    pod["initContainers"] = [{**waits, "resources": container["resources"]}]
    impatient = PipesKubeRayJobClient(client.client, timeout=8)
    with pytest.raises(CallTimeoutError, match="has not started within 8 s: the Ray cluster is"):
        _run(impatient, cluster, ray_job=ray_job)
    assert names(cluster, namespace, "rayjobs") == []
    wait_for("no cluster", lambda: not names(cluster, namespace, "rayclusters"), 30)


def test_a_missing_or_invalid_manifest_is_refused(
    client: PipesKubeRayJobClient, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidConfigError, match="ray_job"):
        _run(client, cluster)
    wrong = _ray_job(cluster, namespace, tmp_path, "true", runtimeEnvYAML="[not: closed")
    with pytest.raises(InvalidConfigError, match="runtimeEnvYAML: is not YAML"):
        _run(client, cluster, ray_job=wrong)
    assert names(cluster, namespace, "rayjobs") == []
    wait_for("no cluster", lambda: not names(cluster, namespace, "rayclusters"), 30)
