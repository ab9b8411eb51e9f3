"""The argument `timeout` of the Pipes clients: how long a script may be pending."""

import math
import time

import pytest
from dagster_ray import PipesRayJobClient
from dagster_ray.configs import BackendConfig
from dagster_ray.errors import CallTimeoutError
from dagster_ray.patience import with_patience
from pipes_script import Write, run_script
from ray_head import RayHead


@pytest.mark.timeout(120)
def test_a_script_that_ray_does_not_start_in_time_is_stopped(
    ray_head: RayHead, script: Write
) -> None:
    client = PipesRayJobClient(address=ray_head.url, timeout=3)
    # The head has two GPUs.
    params = {
        "entrypoint": script("print('never')"),
        "entrypoint_num_gpus": 100,
        "submission_id": "waits-for-gpus",
    }
    begun = time.monotonic()
    with pytest.raises(CallTimeoutError) as late:
        run_script(client, params)
    assert time.monotonic() - begun < 60
    assert late.value.seconds == 3
    text = str(late.value)
    assert "waits-for-gpus has not started within 3 s" in text and "`timeout`" in text
    # Ray's own message says what the job waits for.
    assert "resources" in text, text
    assert ray_head.jobs()["waits-for-gpus"]["status"] in ("STOPPED", "FAILED")


@pytest.mark.timeout(120)
def test_a_script_that_has_started_may_run_for_longer(ray_head: RayHead, script: Write) -> None:
    client = PipesRayJobClient(address=ray_head.url, timeout=30)
    body = """
        import time
        from dagster_pipes import open_dagster_pipes

        with open_dagster_pipes() as context:
            time.sleep(33)
            context.report_custom_message("done")
    """
    _, custom = run_script(client, {"entrypoint": script(body)})
    assert custom == ["done"]


def test_an_own_patience_wins_and_infinity_is_no_limit() -> None:
    plain = BackendConfig.validated()
    assert with_patience(plain, 600.0) == {"patience": {"start_seconds": 600.0}}
    assert with_patience(plain, math.inf) == {}
    own = BackendConfig.validated(
        backend_config={"patience": {"start_seconds": 5}}, unreachable_timeout=7
    )
    assert with_patience(own, 600.0) == {
        "patience": {"start_seconds": 5, "unreachable_seconds": 7.0}
    }
