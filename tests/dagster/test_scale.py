"""Lists of tens of thousands of objects, and runs of thousands of steps."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import dagster as dg
import pytest
import yaml
from dagster_ray.backend import Backend
from dagster_ray.configs import BackendConfig
from dagster_ray.contract import ClusterClient, ExecutorClient, StepRef, StepSpec
from dagster_ray.errors import InvalidConfigError
from dagster_ray.executor.event_log import ReportedEnds

JOBS = 25_000
CLUSTERS = 2_000


@contextmanager
def served(answer: Any) -> Iterator[str]:
    """Serves the JSON that `answer` returns for a path. The value is the server's URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = json.dumps(answer(self.path)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def _job(number: int) -> dict[str, Any]:
    return {
        "type": "SUBMISSION",
        "submission_id": f"dagster-step-{number:08}",
        "status": "RUNNING",
        "entrypoint": "dagster api execute_step",
        "message": "Job is currently running.",
        "start_time": 1_795_000_000_000 + number,
        "metadata": {f"dagster/{key}": f"{number:036}" for key in ("run-id", "job", "op", "user")},
        "runtime_env": {"env_vars": {"ARGUMENTS": "x" * 1000}},
        "driver_node_id": "0" * 56,
    }


def test_the_health_of_steps_is_read_while_ray_remembers_tens_of_thousands_of_jobs() -> None:
    jobs = [_job(number) for number in range(JOBS)]
    asked: list[str] = []

    def answer(path: str) -> Any:
        if path.startswith("/api/v0/nodes"):
            # The nodes of running jobs, once a minute.
            return {"result": True, "data": {"result": {"result": []}}}
        asked.append(path)
        return jobs if path == "/api/jobs/" else jobs[int(path.rsplit("-", 1)[1])]

    def references(count: int) -> list[StepRef]:
        return [
            {
                "run_id": "r",
                "step_key": str(number),
                "attempt": 0,
                "job": {
                    "submission_id": f"dagster-step-{number:08}",
                    "dashboard_url": None,
                    "details": None,
                },
            }
            for number in range(count)
        ]

    with served(answer) as url:
        client = ExecutorClient(Backend(BackendConfig(backend="existing", address=url)))
        many = client.check(references(200))
        assert {one["state"] for one in many} == {"running"} and asked == ["/api/jobs/"]
        asked.clear()
        # The list costs Ray more than a few jobs.
        assert [one["state"] for one in client.check(references(3))] == ["running"] * 3
        assert len(asked) == 3 and "/api/jobs/" not in asked


def _cluster(number: int) -> dict[str, Any]:
    template = {
        "spec": {"containers": [{"name": "c", "env": [{"name": "A", "value": "x" * 2000}]}]}
    }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {
            "name": f"cluster-{number}",
            "namespace": "ray",
            "uid": str(number),
            "resourceVersion": "1",
            "creationTimestamp": "2026-11-24T02:23:10Z",
            "labels": {"dagster/run-id": f"run-{number}", "dagster-ray/deployment": "d"},
            "managedFields": [
                {"manager": "kuberay", "fieldsV1": {f"f:{n}": {} for n in range(100)}}
            ],
        },
        "spec": {
            "headGroupSpec": {"template": template},
            "workerGroupSpecs": [{"groupName": "w", "template": template}],
        },
        "status": {"state": "ready", "conditions": [{"type": "HeadPodReady", "status": "True"}]},
    }


def test_thousands_of_ray_clusters_are_listed_and_expire_within_the_components_memory(
    tmp_path: Path,
) -> None:
    pages: list[str] = []

    def answer(path: str) -> Any:
        query = parse_qs(urlsplit(path).query)
        start = int(query.get("continue", ["0"])[0])
        end = start + int(query.get("limit", [str(CLUSTERS)])[0])
        pages.append(path)
        is_clusters = urlsplit(path).path.endswith("/rayclusters")
        items = [_cluster(number) for number in range(start, min(end, CLUSTERS))]
        more = str(end) if is_clusters and end < CLUSTERS else ""
        metadata = {"resourceVersion": "1", "continue": more}
        return {"kind": "List", "metadata": metadata, "items": items if is_clusters else []}

    with served(answer) as url:
        kubeconfig = {
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        file = tmp_path / "config"
        file.write_text(yaml.safe_dump(kubeconfig))
        config = BackendConfig(backend="kuberay", kube_config=str(file))
        client = ClusterClient(Backend(config))
        query: Any = {"namespace": "ray", "labels": [], "selector": None, "kind": None}
        listed = client.list_(query)
        assert len(listed) == CLUSTERS and "headGroupSpec" in listed[-1]["document"]
        assert len(pages) == CLUSTERS / 250
        rule: Any = {"query": query, "deployment": "d", "live_runs": [], "older_than_s": 0}
        assert len(client.expired(rule)["expired"]) == CLUSTERS


def _spec(bytes_of_arguments: int) -> StepSpec:
    arguments: Any = [["DAGSTER_COMPRESSED_EXECUTE_STEP_ARGS", "x" * bytes_of_arguments]]
    return {
        "deployment": "d",
        "run_id": "r",
        "step_key": "gather",
        "attempt": 0,
        "job_name": "j",
        "code_location": None,
        "command": {
            "argv": ["dagster", "api", "execute_step"],
            "payload": None,
            "env": arguments,
        },
        "tags": [],
        "options": "{}",
    }


def test_a_step_whose_arguments_no_process_can_receive_fails_with_a_hint() -> None:
    client = ExecutorClient(
        Backend(BackendConfig(backend="existing", address="http://127.0.0.1:1"))
    )
    placed, refused = client.plan([_spec(100_000), _spec(130_000)])
    assert not isinstance(placed, Exception)
    with pytest.raises(InvalidConfigError, match="isolation: task"):
        raise refused  # pyright: ignore[reportGeneralTypeIssues]


@dg.op
def step() -> None:
    pass


@dg.job
def three_steps():
    for number in range(3):
        step.alias(f"step_{number}")()


def test_the_end_of_a_step_is_found_without_reading_the_other_ends_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        run_id = three_steps.execute_in_process(instance=instance).run_id
        ends = ReportedEnds()
        assert ends.has(instance, run_id, "step_0", 0)
        read = instance.get_records_for_run
        monkeypatch.setattr(instance, "get_records_for_run", None)
        assert ends.has(instance, run_id, "step_2", 0)
        monkeypatch.setattr(instance, "get_records_for_run", read)
        # A step without an end is looked for in the whole log, which counts no end twice.
        assert not ends.has(instance, run_id, "step_1", 1)
        assert not ends.has(instance, run_id, "step_1", 1)
