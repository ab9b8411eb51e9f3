"""What the job does when Ray fails. `simulated_ray` is a fixture of dagster_ray."""

from dagster_ray.testing import SimulatedRay


def test_a_step_that_runs_out_of_memory_is_retried(simulated_ray: SimulatedRay) -> None:
    simulated_ray.out_of_memory(step="train", times=2)
    result = simulated_ray.execute("definitions", job="training")
    assert result.success, result
    assert [job.exit_code for job in simulated_ray.jobs if job.step == "train"] == [-9, -9, 0]


def test_more_failures_than_retries_fail_the_run(simulated_ray: SimulatedRay) -> None:
    simulated_ray.out_of_memory(step="train", times=3)
    result = simulated_ray.execute("definitions", job="training")
    assert not result.success
    assert any("exit code -9" in error for error in result.errors)


def test_a_lost_response_starts_no_second_step(simulated_ray: SimulatedRay) -> None:
    simulated_ray.lose_response(step="load", times=1)
    result = simulated_ray.execute("definitions", job="training")
    assert result.success, result
    assert [job.step for job in simulated_ray.jobs] == ["load", "train"]


def test_the_output_of_a_script_survives_a_broken_connection(simulated_ray: SimulatedRay) -> None:
    simulated_ray.cut_log(after_lines=1)
    result = simulated_ray.execute("definitions", job="modelling")
    assert result.success, result
    [made] = [event for event in result.step_events("model") if event.is_step_materialization]
    assert made.materialization.metadata["loss"].value == 0.25
