"""The resources' life, with a Ray that only pretends, and LocalRay with a real one."""

import dagster as dg
import pytest
from dagster_ray import Lifecycle, LocalRay, RayResource
from dagster_ray.configs import RayDataExecutionOptions
from dagster_ray.types import AnyDagsterContext
from pydantic import PrivateAttr
from ray_head import RayHead


class Recorded(RayResource):
    """A cluster that notes what happens to it."""

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
        """As Ray's own context has it."""
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
def test_life(lifecycle: Lifecycle, fail_at: str, calls: str) -> None:
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


def test_init_options_are_resolved_and_shared_with_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """W13: asking twice gives the same, and the user's dictionary stays the user's."""
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


def test_a_connection_that_breaks_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """L16: what `ray.init` raises is the built-in error."""
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


def test_local_ray_lives_with_a_connection_of_others(
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
        assert ray.is_initialized(), "it was connected before, by somebody else"
    finally:
        ray.shutdown()
    assert "Deleted" not in caplog.text


def test_settings_of_ray_data_are_applied() -> None:
    pytest.importorskip("pandas", reason="ray.data needs it")
    import ray.data

    RayDataExecutionOptions(cpu_limit=3).apply()
    assert ray.data.DataContext.get_current().execution_options.resource_limits.cpu == 3


def test_local_ray_connects_through_a_launched_environment(
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
