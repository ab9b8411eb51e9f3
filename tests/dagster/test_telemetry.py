"""Spans and metrics of component calls, with OpenTelemetry's in-memory exporters."""

import http.server
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from component_files import FIXTURES, put
from dagster_ray import telemetry
from dagster_ray.backend import Backend
from dagster_ray.configs import BackendConfig
from dagster_ray.contract import LauncherClient
from dagster_ray.errors import ComponentTrap, PermissionDeniedError
from dagster_ray.testing import SimulatedRay
from document_blocks import page, page_block
from example_commands import run_shell
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from run_spec import PLAN, RUN

PROJECT = Path(__file__).parent / "code" / "simulated_project.py"


class Telemetry:
    """What was recorded since the test began."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def span(self, name: str) -> ReadableSpan:
        [span] = self.spans(name)
        return span

    def totals(self) -> dict[str, float]:
        """Returns the sum of each counter over its attributes."""
        data = self.reader.get_metrics_data()
        return {
            metric.name: sum(
                point.value
                for point in metric.data.data_points
                if isinstance(point, NumberDataPoint)
            )
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Telemetry]:
    # A process can set its global providers once only.
    recorded = Telemetry()
    monkeypatch.setattr(trace, "get_tracer", recorded.tracers.get_tracer)
    monkeypatch.setattr(metrics, "get_meter", recorded.meters.get_meter)
    telemetry._create_instruments.cache_clear()
    yield recorded
    telemetry._create_instruments.cache_clear()


@pytest.fixture
def attack(tmp_path: Path) -> Callable[[str], object]:
    """Calls the hostile component, which may use a dashboard that does not exist."""

    def call(attack: str) -> object:
        wasm = put(FIXTURES / "hostile.wasm", tmp_path / "hostile.wasm")
        grants = 'http = ["address"]\npackages = true\nobjects = ["ours"]\n'
        programs = 'processes = { echo = [["hello"]] }\n'
        wasm.with_suffix(".toml").write_text(f'id = "hostile"\n[grants]\n{grants}{programs}')
        config = BackendConfig.validated(
            backend=str(wasm), address="http://127.0.0.1:1", backend_config={"attack": attack}
        )
        return Backend(config).call("launcher.plan", PLAN)

    return call


def test_each_call_is_a_span_with_its_run_its_steps_and_its_outcome(
    simulated_ray: SimulatedRay, recorded: Telemetry
) -> None:
    result = simulated_ray.execute(PROJECT, job="training")
    assert result.success, result
    first, second = recorded.spans("executor.launch")
    for span, step in ((first, "load"), (second, "train")):
        assert span.attributes
        assert span.attributes["dagster.run_id"] == result.run_id
        assert span.attributes["dagster.step_keys"] == (step,)
        assert span.attributes["dagster_ray.component"] == "simulated"
        assert len(str(span.attributes["dagster_ray.component.digest"])) == 64
        assert span.attributes["dagster_ray.outcome"] == "ok"
    spans = recorded.exporter.get_finished_spans()
    assert recorded.totals()["dagster_ray.calls"] == len(spans)


def test_the_trace_of_a_launch_continues_in_the_run_worker_and_in_its_steps(
    simulated_ray: SimulatedRay, recorded: Telemetry
) -> None:
    result = simulated_ray.launch(PROJECT, job="training").wait()
    assert result.success, result
    launch = recorded.span("launch run")
    assert recorded.span("launcher.launch").parent == launch.context
    context = launch.context
    assert context is not None and launch.attributes
    assert launch.attributes["dagster.run_id"] == result.run_id
    jobs = simulated_ray.jobs
    assert [job.step for job in jobs] == [None, "load", "train"]
    for job in jobs:
        variables = job.runtime_env["env_vars"]
        assert isinstance(variables, dict)
        _, trace_id, span_id, _ = variables["TRACEPARENT"].split("-")
        assert (int(trace_id, 16), int(span_id, 16)) == (context.trace_id, context.span_id)


def test_a_denied_request_and_a_trap_are_counted(
    attack: Callable[[str], object], recorded: Telemetry
) -> None:
    with pytest.raises(PermissionDeniedError):
        attack("get http://metadata.internal:80/latest")
    with pytest.raises(ComponentTrap):
        attack("panic")
    totals = recorded.totals()
    assert (totals["dagster_ray.denials"], totals["dagster_ray.traps"]) == (1, 1)
    assert "dagster_ray.requests" not in totals
    denied, trapped = recorded.spans("launcher.plan")
    assert denied.attributes and trapped.attributes
    assert denied.attributes["dagster_ray.outcome"] == "PermissionDeniedError"
    assert not denied.status.is_ok and "metadata.internal" in str(denied.status.description)
    assert trapped.attributes["dagster_ray.outcome"] == "ComponentTrap"


class _Recovering(http.server.BaseHTTPRequestHandler):
    """A dashboard that fails for its first two requests."""

    requests = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        # The text of Ray's Jobs API for a job that it does not have.
        text = f"Job {self.path.rpartition('/')[2]} does not exist".encode()
        self.send_response(503 if self.requests <= 2 else 404)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """Writes nothing."""


def test_requests_and_their_repetitions_are_counted(recorded: Telemetry) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Recovering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        config = BackendConfig.validated(address=f"http://127.0.0.1:{server.server_port}")
        client = LauncherClient(Backend(config))
        reference = client.plan(RUN)
        assert reference != "local"
        assert client.debug_info(reference["job"])
    finally:
        server.shutdown()
    totals = recorded.totals()
    assert totals["dagster_ray.requests"] == _Recovering.requests
    assert totals["dagster_ray.retries"] == 2


@page("docs/observability.md", "Observability", "shell")
@pytest.mark.usefixtures("simulated_ray")
def test_the_printed_command_exports_the_calls_of_a_run(printed: str, tmp_path: Path) -> None:
    install, command = printed.splitlines()
    assert install == "pip install 'dagster-ray-wasm[otel]'"
    (tmp_path / "jobs.py").write_text(page_block("README.md", "Quick start", "python"))
    shown = run_shell(command, tmp_path, {"DAGSTER_HOME": str(tmp_path)})
    assert '"name": "executor.launch"' in shown


def test_a_process_without_opentelemetry_does_not_import_it() -> None:
    program = (
        "import sys\nfrom dagster_ray.backend import Backend\n"
        "from dagster_ray.configs import BackendConfig\n"
        f"Backend(BackendConfig.validated(backend='existing', address='http://h:1'))"
        f".call('launcher.plan', {PLAN!r})\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert finished.stdout.strip() == "[]"
