"""The attacks of `tests/sandbox/attacks.json`, run in a process that uses Ray.

Ray installs fault handlers in a process, so each attack runs before and after `ray.init()`. The
text, the reports and the exception must be those that the list gives for Rust, and the next call
must succeed.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance
from ray_head import RayHead
from run_spec import PLAN

SANDBOX = Path(__file__).parents[1] / "sandbox"
PROBE = Path(__file__).parent / "code" / "attacks.py"


def _run(*arguments: str, **environment: str) -> dict:
    finished = subprocess.run(
        [sys.executable, str(PROBE), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, **environment},
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    return json.loads(finished.stdout.splitlines()[-1])


SERVED = {
    "executor.finish": "executor.plan raises DagsterRayError: "
    "hostile: executor.plan: this export does nothing"
}


def test_each_attack_has_the_listed_outcome_before_and_after_ray_init(
    ray_head: RayHead,
) -> None:
    found = _run("attacks", ray_head.gcs)
    listed = {line["what"]: line for line in json.loads((SANDBOX / "attacks.json").read_text())}
    assert len(listed) > 80
    for when in ("before", "after"):
        assert {line["what"] for line in found[when]} == set(listed)
        # An attack listed with `every` runs once for each export.
        assert len(found[when]) > len(listed)
        wrong = []
        for line in found[when]:
            expected = {key: listed[line["what"]][key] for key in ("outcome", "raises")}
            expected["next"] = SERVED.get(line["export"], "executor.finish answers null")
            actual = {key: line[key] for key in expected}
            if actual != expected:
                wrong.append((line["what"], line["export"], actual, expected))
        assert wrong == [], when


def test_no_secret_is_in_the_components_memory_logs_or_exceptions(ray_head: RayHead) -> None:
    found = _run("canaries", ray_head.gcs, PLANTED_IN_THE_ENVIRONMENT="planted-in-the-environment")
    for when in ("before", "after"):
        counts = found[when]["counts"]
        assert counts.pop("given-as-a-setting") > 0
        assert len(counts) == 3
        assert set(counts.values()) == {0}, counts
        assert "given-as-a-setting" in found[when]["lines"]
        for text in (found[when]["lines"], found[when]["error"]):
            assert "planted" not in text


def test_a_call_in_a_forked_process_fails_and_the_parent_still_works() -> None:
    found = _run("fork")
    assert found == {"child": "ForkedProcessError", "names_spawn": True, "parent": "served"}


@pytest.mark.parametrize("key", ["htpp", "memory"])
def test_an_unknown_key_in_backend_grants_is_named_in_the_error(key: str, tmp_path: Path) -> None:
    from dagster_ray.backend import Backend
    from dagster_ray.configs import BackendConfig
    from dagster_ray.errors import InvalidConfigError

    allowed = {"grants": {"htpp": []}} if key == "htpp" else {"limits": {"memory": 1}}
    backend = Backend(
        BackendConfig(backend="existing", address="http://127.0.0.1:9", backend_grants=allowed)
    )
    with pytest.raises(InvalidConfigError, match=f"backend_grants: .*{key}"):
        backend.call("launcher.plan", PLAN)


@pytest.mark.parametrize(
    ("allowed", "message"),
    [
        ({"backend_grants": {"grants": {"packages": True}}}, "backend_grants of the configuration"),
        ({"backend_sha256": "0" * 64}, "the configuration pins 000"),
    ],
)
def test_the_launchers_configuration_restricts_and_pins_its_backend(
    home: Callable[[dict], DagsterInstance], allowed: dict, message: str
) -> None:
    from dagster_ray import RayRunLauncher
    from dagster_ray.errors import ComponentLoadError

    config = {"address": "http://127.0.0.1:9", "backend": "existing", **allowed}
    launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": config}
    launcher = home({"run_launcher": launcher}).run_launcher
    assert isinstance(launcher, RayRunLauncher)
    with pytest.raises(ComponentLoadError, match=message):
        launcher.backend.call("launcher.plan", PLAN)


def test_a_port_is_not_forwarded_to_a_service_that_the_component_is_not_granted() -> None:
    found = _run("forward")
    assert set(found) == {"kube-system:8265", "ray:10250"}
    for target, error in found.items():
        namespace, port = target.split(":")
        assert error["raises"] == "PermissionDeniedError"
        assert error["grant"] == (
            f'cluster_services = [{{ namespaces = ["{namespace}"], ports = [{port}] }}]'
        )


def test_a_ray_head_outside_the_namespace_of_its_cluster_is_refused() -> None:
    from dagster_ray.errors import ComponentError
    from dagster_ray.kuberay.backend import head_service

    endpoints: Any = {"host": "raycluster-head-svc.kube-system.svc"}
    with pytest.raises(ComponentError, match="namespace 'ray'"):
        head_service(endpoints, "ray")
    assert head_service(endpoints, "kube-system") == "raycluster-head-svc"


def test_control_characters_of_a_manifest_reach_neither_exception_nor_terminal(
    tmp_path: Path,
) -> None:
    from dagster_ray._native import Component
    from dagster_ray.errors import ComponentLoadError

    wasm = tmp_path / "ours.wasm"
    wasm.write_bytes(
        (SANDBOX / "../../target/wasm32-wasip2/component/fixture_echo.wasm").read_bytes()
    )
    # The parser quotes the line, in which it finds the mistake.
    wasm.with_suffix(".toml").write_text("id = 'x'\nother\x1b[2J\x9b1m = 1\n")
    with pytest.raises(ComponentLoadError) as raised:
        Component(str(wasm), settings={}, authorities=[], programs={}, directories=[]).call(
            "describe.describe", "{}"
        )
    assert "[2J" in str(raised.value)
    assert not {"\x1b", "\x9b"} & set(str(raised.value))
    shown = subprocess.run(
        [sys.executable, "-m", "dagster_ray", "inspect", str(wasm)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert shown.returncode != 0 and "[2J" in shown.stderr
    assert not {"\x1b", "\x9b"} & set(shown.stderr)


def test_denied_requests_and_used_credentials_are_in_the_audit_log() -> None:
    found = _run("audit")
    lines = [json.loads(line) for line in found["lines"]]
    for line in lines:
        assert (line["component"], line["export"], line["runs"]) == (
            "hostile",
            "launcher.plan",
            ["r"],
        )
        assert len(line["digest"]) == 64
    [denied] = [line for line in lines if line["event"] == "denied"]
    assert denied["target"] == "http://metadata.internal:80/latest"
    [used] = [line for line in lines if line["event"] == "credential"]
    assert used["credential"] == "authorization"
    assert used["authority"].startswith("http://127.0.0.1:")
    assert "planted" not in "".join(found["lines"])
    assert found["disabled"] == []
