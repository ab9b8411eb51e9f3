"""The error hierarchy, and the details that each error carries."""

import pickle
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from component_files import FIXTURES, built_in, put
from dagster_ray import PipesRayJobClient, errors
from dagster_ray.backend import Backend
from dagster_ray.configs import BackendConfig
from dagster_ray.errors import (
    BackendError,
    CancelledError,
    ComponentError,
    ComponentLoadError,
    ComponentTrap,
    ConflictError,
    DagsterRayError,
    PermissionDeniedError,
    ScriptFailedError,
    UnavailableError,
)
from fault_proxy import FaultProxy
from processes import free_port
from run_spec import PLAN

RUN = {"run_id": "r", "attempt": 0, "job": {"submission_id": "s"}}


def test_all_errors_derive_from_dagster_ray_error() -> None:
    kinds = [getattr(errors, name) for name in errors.__all__]
    assert all(issubclass(kind, DagsterRayError) for kind in kinds)
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert defined == set(errors.__all__)
    # `except ComponentError` catches exactly the faults of a component.
    at_fault = {kind for kind in kinds if issubclass(kind, ComponentError)}
    assert at_fault == {ComponentError, ComponentLoadError, ComponentTrap}
    # Code for earlier releases catches RuntimeError when a script fails.
    assert issubclass(ScriptFailedError, RuntimeError)


@pytest.mark.parametrize("name", errors.__all__)
def test_errors_keep_their_details_when_pickled(name: str) -> None:
    kind = getattr(errors, name)
    names = sorted({one for cls in kind.__mro__ for one in vars(cls).get("_detail_names", ())})
    assert all(getattr(kind("m"), one) is None for one in names), "not known"
    error = kind("what was wrong", **{one: f"its {one}" for one in names})
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind and str(copy) == copy.message == "what was wrong"
    assert [getattr(copy, one) for one in names] == [f"its {one}" for one in names]


def _called(config: BackendConfig, export: str = "launcher.check") -> DagsterRayError:
    with pytest.raises(DagsterRayError) as raised:
        Backend(config).call(export, {"runs": [RUN]})
    return raised.value


def test_a_denial_names_the_missing_grant(tmp_path: Path) -> None:
    wasm = built_in("existing", tmp_path / "elsewhere.wasm")
    grants = 'http = ["https://example.org:443"]\npackages = true\ntasks = true\n'
    wasm.with_suffix(".toml").write_text(f'id = "mine"\n[grants]\n{grants}')
    address = f"http://127.0.0.1:{free_port()}"
    error = _called(BackendConfig(backend=str(wasm), address=address))
    assert isinstance(error, PermissionDeniedError), repr(error)
    assert error.capability and "http" in error.capability
    assert error.target and address.removeprefix("http://") in error.target
    assert error.grant == f'http = ["{address}"]'


def test_an_http_error_of_ray_carries_its_status(proxy: FaultProxy) -> None:
    with proxy.inject("GET", "/api/jobs/s", 418):
        error = _called(BackendConfig(backend="existing", address=proxy.url))
    assert isinstance(error, BackendError), repr(error)
    assert error.status == 418


RUN_SPEC = {
    "deployment": "d",
    "run_id": "maybe-applied",
    "attempt": 0,
    "job_name": "job",
    "code_location": None,
    "command": {"argv": ["true"], "payload": None, "env": []},
    "tags": [],
    "options": "{}",
}


def _launched(address: str) -> UnavailableError:
    patience = {"patience": {"request_seconds": 2}}
    backend = Backend(BackendConfig(backend="existing", address=address, backend_config=patience))
    with pytest.raises(UnavailableError) as raised:
        backend.call("launcher.launch", {"run": RUN_SPEC})
    return raised.value


def test_a_submission_is_maybe_applied_when_its_response_is_lost(proxy: FaultProxy) -> None:
    # After the submission, no request succeeds.
    with proxy.inject("POST", "/api/jobs/", "lost"), proxy.inject("GET", "/api/jobs/.*", 503):
        assert _launched(proxy.url).maybe_applied is True


def test_a_submission_is_not_maybe_applied_when_the_connection_is_refused() -> None:
    assert not _launched(f"http://127.0.0.1:{free_port()}").maybe_applied


def test_a_cancelled_call_raises_cancelled_error(tmp_path: Path) -> None:
    wasm = put(FIXTURES / "hostile.wasm", tmp_path / "endless.wasm")
    grants = 'http = ["address"]\npackages = true\nobjects = ["ours"]\n'
    programs = 'processes = { echo = [["hello"]] }\n'
    wasm.with_suffix(".toml").write_text(f'id = "mine"\n[grants]\n{grants}{programs}')
    attack = {"attack": "spin"}
    backend = Backend(
        BackendConfig(backend=str(wasm), address="http://127.0.0.1:9", backend_config=attack)
    )
    pending = backend.start("launcher.plan", PLAN)
    time.sleep(0.5)
    assert not pending.done()
    pending.cancel()
    with pytest.raises(CancelledError):
        pending.result(30)


def test_a_submission_id_in_use_raises_conflict_error(ray_head: Any, tmp_path: Any) -> None:
    """Two scripts are submitted with the same submission id."""
    client = PipesRayJobClient(address=ray_head.url)
    params: Any = {"entrypoint": "true", "submission_id": "taken-by-the-first"}

    def run() -> None:
        @dg.op
        def scripted(context: dg.OpExecutionContext) -> None:
            client.run(context=context, submit_job_params=params)

        @dg.job
        def scripts() -> None:
            scripted()

        scripts.execute_in_process()

    run()
    with pytest.raises(ConflictError, match="taken-by-the-first"):
        run()
