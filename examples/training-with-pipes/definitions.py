"""Two models whose scripts report the metrics of Ray Tune and of Ray Train to Dagster."""

import dagster as dg
from dagster_ray import ray_job_asset

tuned = ray_job_asset(
    "python tune_rate.py", "tuned_rate", runtime_env={"working_dir": "scripts"}, timeout=120
)
trained = ray_job_asset(
    "python train_model.py",
    dg.AssetSpec("model", deps=["tuned_rate"]),
    runtime_env={"working_dir": "scripts"},
    timeout=120,
)

defs = dg.Definitions(assets=[tuned, trained], executor=dg.in_process_executor)
