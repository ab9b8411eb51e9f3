"""A deployment on PostgreSQL, as in production, with its run queue and run monitoring."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import DagsterEventType, DagsterRunStatus
from deployment import Deployment
from postgres import Postgres, postgres
from processes import wait_for
from ray_head import RayHead

_PASSWORD = "DAGSTER_RAY_TEST_PG_PASSWORD"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="module")
def deployment(
    ray_head: RayHead, server: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(_PASSWORD, server.password)
        launcher = {
            "module": "dagster_ray",
            "class": "RayRunLauncher",
            # The workers connect to the database themselves.
            "config": {"address": ray_head.url, "env_vars": [_PASSWORD]},
        }
        settings = {
            "telemetry": {"enabled": False},
            "storage": server.storage(_PASSWORD),
            "run_launcher": launcher,
            "concurrency": {"runs": {"max_concurrent_runs": 3}},
            "run_monitoring": {"enabled": True, "poll_interval_seconds": 2},
        }
        jobs = Path(__file__).parent / "code/fan_out.py"
        context = {"ray": {"metadata": {"team": "search"}}}
        deployment = Deployment(tmp_path_factory.mktemp("deployment"), settings, jobs, context)
        yield deployment
        deployment.stop()


def _ended(ray_head: RayHead, run_id: str) -> bool:
    statuses = {job["status"] for job in ray_head.jobs(run_id).values()}
    return statuses <= {"STOPPED", "FAILED", "SUCCEEDED"}


def test_queued_runs_of_both_isolations_and_a_termination(
    deployment: Deployment, server: Postgres, ray_head: RayHead
) -> None:
    count = 8
    config = {"numbers": {"config": {"count": count}}}
    canceled = deployment.launch("endless")
    runs = {deployment.launch(job, config): job for job in ["as_tasks", "as_jobs", "as_tasks"]}
    deployment.wait_until(canceled, DagsterRunStatus.STARTED, 180)
    wait_for(
        "the step",
        lambda: deployment.instance.all_logs(canceled, of_type=DagsterEventType.STEP_START),
        180,
    )
    deployment.terminate(canceled)
    deployment.wait_until(canceled, DagsterRunStatus.CANCELED)
    for run_id, job in runs.items():
        deployment.wait_until(run_id, DagsterRunStatus.SUCCESS, 180)
        assert "the total is 140" in deployment.messages(run_id), job
        ended = deployment.instance.all_logs(run_id, of_type=DagsterEventType.STEP_SUCCESS)
        # Each step has one end, although the events were read while other runs wrote theirs.
        assert Counter(event.step_key for event in ended).most_common(1)[0][1] == 1
        assert len(ended) == count + 2
        # The code location sets options of its runs.
        assert ray_head.jobs()[f"dagster-run-{run_id}"]["metadata"]["team"] == "search"
    wait_for("the end of its jobs", lambda: _ended(ray_head, canceled))

    def connections() -> list[str]:
        text = (
            "select coalesce(application_name, '') from pg_stat_activity where datname = 'dagster'"
        )
        return [name for (name,) in server.query(text) if name != "test"]

    # The run workers and steps have ended, and have left no session in the database.
    daemons = 3
    wait_for("the sessions' ends", lambda: len(connections()) <= daemons * 5)
