"""A Ray that is not there. No Ray is needed."""

import time

import dagster as dg
import pytest
from dagster._core.launcher import WorkerStatus
from dagster._core.test_utils import create_run_for_test
from dagster_ray.core.run_launcher import RUN_REF_TAG, RayRunLauncher
from dagster_ray.errors import InvalidConfigError, UnavailableError
from processes import free_port


@pytest.fixture
def instance(home) -> dg.DagsterInstance:
    launcher = {
        "module": "dagster_ray",
        "class": "RayRunLauncher",
        "config": {"address": f"http://127.0.0.1:{free_port()}", "unreachable_timeout": 3},
    }
    return home({"run_launcher": launcher})


def test_no_ray_at_the_address(instance: dg.DagsterInstance) -> None:
    launcher = instance.run_launcher
    assert isinstance(launcher, RayRunLauncher)
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    with pytest.raises(UnavailableError) as raised:
        launcher.backend.call("launcher.check", {"runs": [launcher._reference(run)]})
    assert launcher.backend.url in str(raised.value)


def test_silence_is_no_death_until_it_lasts(instance: dg.DagsterInstance) -> None:
    """W1: a second worker beside a live one is worse than waiting for the dashboard."""
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    health = instance.run_launcher.check_run_worker_health(run)
    assert health.status == WorkerStatus.RUNNING
    assert health.transient
    time.sleep(3)
    health = instance.run_launcher.check_run_worker_health(run)
    assert health.status == WorkerStatus.UNKNOWN


def test_a_run_that_cannot_be_stopped_is_not_called_canceled(instance: dg.DagsterInstance) -> None:
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    assert instance.run_launcher.terminate(run.run_id) is False
    after = instance.get_run_by_id(run.run_id)
    assert after and after.status == dg.DagsterRunStatus.CANCELING
    assert any("could not be stopped" in entry.message for entry in instance.all_logs(run.run_id))


def test_terminating_what_is_over_or_unknown(instance: dg.DagsterInstance) -> None:
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.SUCCESS)
    assert instance.run_launcher.terminate(run.run_id) is False
    assert instance.run_launcher.terminate("no such run") is False


def test_the_reference_survives_in_a_tag(instance: dg.DagsterInstance) -> None:
    tag = '{"run_id": "r", "attempt": 2, "job": {"submission_id": "kept"}}'
    run = create_run_for_test(instance, tags={RUN_REF_TAG: tag})
    bare = create_run_for_test(instance)
    launcher = instance.run_launcher
    assert isinstance(launcher, RayRunLauncher)
    assert launcher._reference(run)["job"]["submission_id"] == "kept"
    assert launcher._reference(bare)["job"]["submission_id"] == f"dagster-run-{bare.run_id}"


def test_a_wrong_scheme_fails_the_launch_with_its_name(home) -> None:
    config = {"address": "ftp://head:8265"}
    launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": config}
    instance = home({"run_launcher": launcher})
    run = create_run_for_test(instance)
    with pytest.raises(InvalidConfigError, match="ftp"):
        instance.run_launcher.get_run_worker_debug_info(run)
