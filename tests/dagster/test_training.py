"""Metrics of Ray Tune and Ray Train as plottable metadata of an asset."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster_ray import ray_job_asset
from dagster_ray.testing import SimulatedRay
from dagster_ray.training.table import markdown, numbers
from document_blocks import blocks, whole_page
from example_commands import run_example
from packaging.version import Version
from pipes_script import Write
from ray_head import RayHead

PAGE = whole_page("docs/training.md")

KEYS = ("tuned_rate", "model")
LOOP = """
    from dagster_pipes import open_dagster_pipes
    from dagster_ray.training import TrainingReports

    with open_dagster_pipes() as pipes, TrainingReports(pipes, seconds={seconds}) as reports:
        for epoch in range(3):
            reports.report({{"loss": 1.0 / (epoch + 1), "note": "text"}}, step=epoch)
        {end}
"""


def _materialized(command: str, **options: Any) -> tuple[dg.ExecuteInProcessResult, list[Any]]:
    asset = ray_job_asset(command, "model", **options)
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([asset], instance=instance, raise_on_error=False)
        # The event log has them as they come, also those of a step that fails.
        entries = instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_OBSERVATION)
    return result, [entry.asset_observation for entry in entries]


def _series(observations: list[Any], name: str) -> list[float]:
    return [one.metadata[name].value for one in observations if name in one.metadata]


@pytest.mark.usefixtures("simulated_ray")
def test_each_report_is_an_observation_and_the_end_a_materialization(script: Write) -> None:
    result, observations = _materialized(script(LOOP.format(seconds=0, end="")))
    assert _series(observations, "loss") == [1.0, 0.5, 1.0 / 3]
    assert _series(observations, "step") == [0, 1, 2]
    [event] = result.asset_materializations_for_node("model")
    # Dagster plots numbers only.
    assert event.metadata["loss"] == dg.MetadataValue.float(1.0 / 3)
    table = str(event.metadata["training"].value)
    assert table.splitlines()[0] == "| step | loss |" and len(table.splitlines()) == 5


@pytest.mark.usefixtures("simulated_ray")
def test_frequent_reports_are_thinned_out_and_the_last_one_is_kept(script: Write) -> None:
    _, observations = _materialized(script(LOOP.format(seconds=60, end="")))
    assert _series(observations, "loss") == [1.0, 1.0 / 3]


def test_the_script_of_the_page_is_plotted(simulated_ray: SimulatedRay, script: Write) -> None:
    [text] = [block.text for block in blocks(PAGE) if block.language == "python"]
    result, observations = _materialized(script(text))
    assert result.success
    series = _series(observations, "loss")
    assert (series[0], series[-1]) == (1.0, 1 / 3)


def test_a_failed_training_keeps_its_observations(
    simulated_ray: SimulatedRay, script: Write
) -> None:
    body = LOOP.format(seconds=0, end="raise SystemExit(3)")
    result, observations = _materialized(script(body))
    assert not result.success and len(observations) == 3
    assert not result.asset_materializations_for_node("model")


def test_a_table_is_bounded_and_only_finite_numbers_are_plotted() -> None:
    rows: list[dict[str, object]] = [{"step": step} for step in range(1001)]
    lines = markdown(rows).splitlines()
    assert len(lines) <= 202 and lines[-1] == "| 1000 |"
    assert markdown([{"a": "x|y"}]).splitlines()[-1] == "| x\\|y |"
    found = numbers({"a": 1, "b": float("nan"), "c": True, "d": "1", "e": {"f": 2}})
    assert found == {"a": 1, "e/f": 2}


needs_train_v2 = pytest.mark.skipif(
    Version(version("ray")) < Version("2.51"), reason="Ray Train V2 is the default since Ray 2.51"
)


@needs_train_v2
@pytest.mark.timeout(300)
def test_the_commands_of_the_example_plot_tune_and_train(ray_head: RayHead, tmp_path: Path) -> None:
    homes = tmp_path / "homes"
    homes.mkdir()
    # The commands make their Dagster home there.
    variables = {"RAY_ADDRESS": ray_head.url, "TMPDIR": str(homes)}
    run_example("training-with-pipes", tmp_path, variables)
    [history] = homes.glob("*/history")
    with dg.DagsterInstance.from_config(str(history.parent)) as instance:
        [run] = instance.get_runs()
        observed = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_OBSERVATION)
        tuned, model = (
            [entry.asset_observation for entry in observed if entry.step_key == step]
            for step in KEYS
        )
        made = {key: instance.get_latest_materialization_event(dg.AssetKey(key)) for key in KEYS}
    best = _series(tuned, "best loss")
    assert best == sorted(best, reverse=True) and best[-1] == 0
    assert _series(tuned, "ended trials")[-1] == 2
    assert _series(model, "epoch") == [0, 1, 2, 3]
    losses = _series(model, "loss")
    assert losses == sorted(losses, reverse=True)

    final = {key: event.asset_materialization.metadata for key, event in made.items()}  # type: ignore[union-attr]
    assert final["tuned_rate"]["best loss"] == dg.MetadataValue.float(0.0)
    table = str(final["tuned_rate"]["training"].value).splitlines()
    assert len(table) == 4 and "config/rate" in table[0] and "TERMINATED" in table[-1]
    assert final["model"]["epoch"] == dg.MetadataValue.float(3.0)
