"""The conformance tests and cassettes, with a real Ray and without one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ray_head import RayHead

ROOT = Path(__file__).parents[2]
COMMAND = Path(sys.executable).with_name("dagster-ray")
# The rules that do not apply to jobs on an existing Ray, with the reason.
NOT_APPLICABLE: dict[str, str] = {}


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(COMMAND), *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )


def outcomes(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    findings = json.loads(done.stdout)["findings"]
    return {f"{one['interface']}: {one['rule']}": one["outcome"] for one in findings}


def test_backend_existing_conforms_on_real_ray_and_in_replay(
    ray_head: RayHead, tmp_path: Path
) -> None:
    cassette = tmp_path / "existing.json"
    live = run("--json", "check", "existing", "--address", ray_head.url, "--record", cassette)
    assert live.returncode == 0, live.stdout + live.stderr
    report = json.loads(live.stdout)
    others = [
        one
        for one in report["findings"]
        if one["interface"] in report["exports"] and one["outcome"] != "passed"
    ]
    assert all(one["outcome"] == "not-applicable" for one in others), others
    assert {f"{one['interface']}: {one['rule']}": one["reason"] for one in others} == NOT_APPLICABLE

    text = cassette.read_text()
    for secret in (ray_head.token, "planted-secret"):
        assert secret not in text

    # The replay must need no token: the token file does not exist.
    nowhere = tmp_path / "no-token"
    replayed = run(
        *("--json", "check", "existing", "--cassette", cassette),
        RAY_AUTH_TOKEN_PATH=str(nowhere),
    )
    assert outcomes(replayed) == outcomes(live), replayed.stdout + replayed.stderr


SCRIPT = """
import os, sys
from pathlib import Path

from dagster import AssetExecutionContext, asset, materialize
from dagster_ray import PipesRayJobClient

client = PipesRayJobClient(address=sys.argv[1])


@asset
def report(context: AssetExecutionContext):
    return client.run(
        context=context,
        submit_job_params={
            "entrypoint": f"{sys.executable} {sys.argv[2]}",
            "runtime_env": {"env_vars": {"PASSWORD": "planted-secret-of-a-user"}},
        },
        extras={"rows": 7},
    ).get_materialize_result()


result = materialize([report])
[event] = result.asset_materializations_for_node("report")
print("ROWS", event.metadata["rows"].value, flush=True)
"""

REPORTS = """
from dagster_pipes import open_dagster_pipes

with open_dagster_pipes() as pipes:
    pipes.report_asset_materialization(metadata={"rows": pipes.get_extra("rows")})
"""


@pytest.fixture
def scripts(tmp_path: Path) -> tuple[Path, Path]:
    session, external = tmp_path / "session.py", tmp_path / "external.py"
    session.write_text(SCRIPT)
    external.write_text(REPORTS)
    return session, external


def test_a_recorded_pipes_session_replays_without_ray(
    ray_head: RayHead, tmp_path: Path, scripts: tuple[Path, Path]
) -> None:
    cassette = tmp_path / "session.json"
    command = [sys.executable, scripts[0], ray_head.url, scripts[1]]
    recorded = run("record", "--to", cassette, "--", *command)
    assert recorded.returncode == 0, recorded.stdout + recorded.stderr
    assert "ROWS 7" in recorded.stdout
    text = cassette.read_text()
    assert "report_asset_materialization" in text
    for secret in (ray_head.token, "planted-secret-of-a-user"):
        assert secret not in text

    # The replay has another run id and nonce, and no token for Ray.
    job_count = len(ray_head.jobs())
    replayed = run("replay", cassette, "--", *command, RAY_AUTH_TOKEN_PATH=str(tmp_path / "none"))
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert "ROWS 7" in replayed.stdout
    assert len(ray_head.jobs()) == job_count


def test_the_error_for_an_unrecorded_request_names_the_request(tmp_path: Path) -> None:
    cassette = tmp_path / "empty.json"
    cassette.write_text('{"version": 1, "exchanges": []}')
    done = run(
        *("call", "existing", "launcher.check", "--address", "http://nowhere:8265"),
        '{"runs": [{"run_id": "r", "attempt": 0, "job": {"submission_id": "s"}}]}',
        DAGSTER_RAY_CASSETTE=f"replay:{cassette}",
    )
    assert done.returncode == 4, done.stdout + done.stderr
    assert "no GET http://nowhere:8265/api/jobs/s" in done.stderr


def test_the_error_for_an_invalid_cassette_setting_says_what_to_write(tmp_path: Path) -> None:
    file = tmp_path / "cassette.json"
    file.write_text("{}")
    for value, expected in {
        "cassette.json": "record:<directory> or replay:<file>",
        f"record:{file}": "dagster-ray record --to FILE",
        f"replay:{file}": "no version",
        f"replay:{tmp_path / 'absent.json'}": "absent.json",
    }.items():
        wasm = ROOT / "host/python/dagster_ray/components/existing.wasm"
        call = f"from dagster_ray._native import Component; Component({str(wasm)!r}).name"
        done = subprocess.run(
            [sys.executable, "-c", call],
            env={**os.environ, "DAGSTER_RAY_CASSETTE": value},
            capture_output=True,
            text=True,
        )
        assert done.returncode != 0
        assert expected in done.stderr, done.stderr
