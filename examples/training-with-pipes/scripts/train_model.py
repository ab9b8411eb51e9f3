"""Trains a model with Ray Train, on two workers. `TorchTrainer` and others are used alike."""

import tempfile

import ray
from dagster_pipes import open_dagster_pipes
from dagster_ray.training import TrainingReports
from ray import train
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer


def loop() -> None:
    weight = 0.0
    for epoch in range(4):
        weight -= 0.4 * 2 * (weight - 3)
        train.report({"loss": (weight - 3) ** 2, "epoch": epoch})


with open_dagster_pipes() as pipes, TrainingReports(pipes, seconds=0) as reports:
    ray.init(log_to_driver=False)
    trainer = DataParallelTrainer(
        loop,
        scaling_config=train.ScalingConfig(num_workers=2),
        run_config=train.RunConfig(
            callbacks=[reports.train_callback()], storage_path=tempfile.mkdtemp()
        ),
    )
    trainer.fit()
