"""Searches for a learning rate with Ray Tune. The trials are plain functions."""

import tempfile
from typing import Any

import ray
from dagster_pipes import open_dagster_pipes
from dagster_ray.training import TrainingReports
from ray import tune


def trial(config: dict[str, Any]) -> None:
    weight = 0.0
    for _ in range(4):
        weight -= config["rate"] * 2 * (weight - 3)
        tune.report({"loss": (weight - 3) ** 2})


with open_dagster_pipes() as pipes, TrainingReports(pipes, seconds=0) as reports:
    ray.init(log_to_driver=False)
    callback = reports.tune_callback(metric="loss", mode="min")
    tuner = tune.Tuner(
        trial,
        param_space={"rate": tune.grid_search([0.1, 0.5])},
        tune_config=tune.TuneConfig(metric="loss", mode="min", max_concurrent_trials=1),
        run_config=tune.RunConfig(callbacks=[callback], storage_path=tempfile.mkdtemp(), verbose=0),
    )
    best = tuner.fit().get_best_result()
    pipes.log.info(f"the best rate is {(best.config or {})['rate']}")
