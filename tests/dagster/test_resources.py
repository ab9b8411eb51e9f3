"""The lifecycle of `RayResource` with a fake cluster, and `LocalRay` with a real Ray."""

from typing import Any

import dagster as dg
import pytest
from dagster_ray import Lifecycle, LocalRay, RayResource
from dagster_ray.configs import ExecutionOptionsConfig, RayDataExecutionOptions
from dagster_ray.types import AnyDagsterContext
from pydantic import PrivateAttr
from ray_head import RayHead


class Recorded(RayResource):
    """A fake cluster that records the calls of its lifecycle."""

    fail_at: str = ""
    _calls: list[str] = PrivateAttr(default_factory=list)

    @property
    def host(self) -> str:
        return "somewhere"

    @property
    def name(self) -> str:
        return "recorded"

    def _note(self, call: str) -> None:
        self._calls.append(call)
        if self.fail_at == call:
            raise RuntimeError(call)

    def create(self, context: object) -> None:
        self._note("create")
        self._name = "recorded"

    def wait(self, context: object) -> None:
        self._note("wait")
        self._host = "somewhere"

    def connect(self, context: AnyDagsterContext) -> object:
        self._note("connect")
        self._context = self
        return self

    def disconnect(self) -> None:
        """Is called by the resource, because Ray's context has this method too."""
        self._note("disconnect")

    def delete(self, context: object) -> None:
        self._note("delete")


@pytest.mark.parametrize(
    ("lifecycle", "fail_at", "calls"),
    [
        (Lifecycle(), "", "create wait connect disconnect delete"),
        (Lifecycle(create=False), "", ""),
        (Lifecycle(connect=False), "", "create wait delete"),
        (Lifecycle(wait=False), "", "create delete"),
        (Lifecycle(cleanup="never"), "", "create wait connect disconnect"),
        (Lifecycle(cleanup="on_exception"), "", "create wait connect disconnect"),
        (Lifecycle(cleanup="on_exception"), "wait", "create wait delete"),
        (Lifecycle(), "connect", "create wait connect delete"),
        (Lifecycle(), "create", "create"),
    ],
)
def test_lifecycle_calls_follow_the_configuration_and_failures(
    lifecycle: Lifecycle, fail_at: str, calls: str
) -> None:
    resource = Recorded(lifecycle=lifecycle, fail_at=fail_at)
    context = dg.build_init_resource_context()
    if fail_at:
        with (
            pytest.raises(RuntimeError, match=fail_at),
            resource.yield_for_execution(context),
        ):
            pass
    else:
        with resource.yield_for_execution(context):
            pass
    assert " ".join(resource._calls) == calls


def test_init_options_are_resolved_without_modifying_the_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two calls return the same options, and the user's dictionary is not modified."""
    monkeypatch.setenv("HERE", "value")
    monkeypatch.delenv("NOT_HERE", raising=False)
    environment = {"A": {"env": "HERE"}, "B": {"env": "NOT_HERE"}}
    resource = Recorded(
        ray_init_options={"runtime_env": {"env_vars": environment}, "namespace": "n"},
        env_vars={"C": "3"},
        enable_tracing=True,
    )
    expected = {
        "namespace": "n",
        "runtime_env": {
            "env_vars": {
                "A": "value",
                "C": "3",
                "RAY_PROFILING": "1",
                "RAY_task_events_report_interval_ms": "0",
            }
        },
    }
    assert resource._init_options() == resource._init_options() == expected
    assert environment == {"A": {"env": "HERE"}, "B": {"env": "NOT_HERE"}}


def test_a_failed_connection_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ray.init` raises the built-in `ConnectionError`."""
    import ray

    class Remote(Recorded):
        def connect(self, context: AnyDagsterContext) -> object:
            return RayResource.connect(self, context)

        def _disconnect(self) -> None:
            return None

    tries: list[str | None] = []

    def init(address: str | None, **_: object) -> object:
        tries.append(address)
        if len(tries) == 1:
            raise ConnectionError("Starting Ray client server failed.")
        return object()

    monkeypatch.setattr(ray, "init", init)
    with Remote().yield_for_execution(dg.build_init_resource_context()) as resource:
        assert resource.connected
    assert tries == ["ray://somewhere:10001"] * 2


def test_local_ray_reuses_and_keeps_an_existing_connection(
    ray_head: RayHead, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import ray

    monkeypatch.setenv("RAY_ADDRESS", ray_head.gcs)
    context = dg.build_init_resource_context()
    ray.init()
    try:
        with LocalRay().yield_for_execution(context) as resource:
            assert resource.connected
            assert ray.get(ray.put(42)) == 42
        assert ray.is_initialized(), "the connection existed before the resource"
    finally:
        ray.shutdown()
    assert "Deleted" not in caplog.text


def test_connecting_applies_the_ray_data_options(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas", reason="ray.data needs it")
    import ray.data

    context = ray.data.DataContext.get_current()

    class Connects(Recorded):
        def connect(self, context: AnyDagsterContext) -> object:
            return RayResource.connect(self, context)

        def _init_ray(self, options: dict) -> object:
            return self

    def applied(options: RayDataExecutionOptions) -> tuple:
        resource = Connects(data_execution_options=options)
        with resource.yield_for_execution(dg.build_init_resource_context()):
            limits = context.execution_options.resource_limits
            verbose = context.execution_options.verbose_progress
            return limits.cpu, limits.gpu, limits.object_store_memory, verbose, context.use_polars

    limits = ExecutionOptionsConfig(cpu=2, gpu=1, object_store_memory=1 << 20)
    options = RayDataExecutionOptions(
        execution_options=limits, cpu_limit=9, verbose_progress=False, use_polars=False
    )
    assert applied(options) == (2, 1, 1 << 20, False, False)
    # Limits that `execution_options` does not set come from `cpu_limit` and `gpu_limit`.
    assert applied(RayDataExecutionOptions(cpu_limit=3, gpu_limit=4))[:2] == (3, 4)
    assert applied(RayDataExecutionOptions())[3:] == (True, True)


def test_debugging_switches_set_rays_environment_variables() -> None:
    switches: dict[str, dict[str, str]] = {
        "enable_debug_post_mortem": {"RAY_DEBUG_POST_MORTEM": "1"},
        "enable_tracing": {"RAY_PROFILING": "1", "RAY_task_events_report_interval_ms": "0"},
        "enable_actor_task_logging": {"RAY_ENABLE_RECORD_ACTOR_TASK_LOGGING": "1"},
        "enable_legacy_debugger": {"RAY_DEBUG": "legacy"},
    }
    assert Recorded().get_env_vars_to_inject() == {}
    assert Recorded(env_vars=None).get_env_vars_to_inject() == {}
    for switch, expected in switches.items():
        options: dict[str, Any] = {switch: True}
        assert Recorded(**options).get_env_vars_to_inject() == expected
    # `env_vars` overrides the switches.
    mine = Recorded(enable_legacy_debugger=True, env_vars={"RAY_DEBUG": "1", "X": "y"})
    assert mine.get_env_vars_to_inject() == {"RAY_DEBUG": "1", "X": "y"}


def test_addresses_use_the_configured_ports() -> None:
    resource = Recorded(redis_port=1, dashboard_port=2)
    assert resource.ray_address == "ray://somewhere:1"
    assert resource.dashboard_url == "http://somewhere:2"
    assert Recorded().ray_address == "ray://somewhere:10001"
    assert Recorded().dashboard_url == "http://somewhere:8265"
    # Without an address, Ray finds or starts the instance on this machine.
    assert LocalRay().ray_address is None
    assert Recorded().resource_uid != Recorded().resource_uid


def test_hooks_are_called_around_each_lifecycle_step() -> None:
    class Hooked(Recorded):
        def on_create(self, context: AnyDagsterContext) -> None:
            self._note("on_create")

        def on_ready(self, context: AnyDagsterContext) -> None:
            self._note("on_ready")

        def on_connect(self, context: AnyDagsterContext) -> None:
            self._note("on_connect")

        def on_cleanup(self, context: AnyDagsterContext, *, deleted: bool) -> None:
            self._note(f"on_cleanup deleted={deleted}")

    context = dg.build_init_resource_context()
    for lifecycle, calls in (
        (
            Lifecycle(),
            "create on_create wait on_ready connect on_connect disconnect delete "
            "on_cleanup deleted=True",
        ),
        (Lifecycle(create=False), "on_cleanup deleted=False"),
        (
            Lifecycle(connect=False, cleanup="never"),
            "create on_create wait on_ready on_cleanup deleted=False",
        ),
    ):
        resource = Hooked(lifecycle=lifecycle)
        with resource.yield_for_execution(context):
            pass
        assert " ".join(resource._calls) == calls


def test_local_ray_passes_env_vars_to_tasks_and_disconnects(
    ray_head: RayHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray_head.gcs)
    import ray

    @ray.remote
    def environment() -> str:
        import os

        return os.environ["GREETING"]

    resource = LocalRay(env_vars={"GREETING": "it's me"})
    with resource.yield_for_execution(dg.build_init_resource_context()):
        assert ray.get(environment.remote()) == "it's me"
        assert resource.runtime_job_id
    assert not ray.is_initialized()
