"""Jobs whose run config and tags tests use as an attacker would."""

import dagster as dg
from dagster_ray import RayIOManager, ray_executor


@dg.op
def one() -> int:
    return 1


@dg.job(executor_def=ray_executor)
def open_executor() -> None:
    one()


@dg.job(
    executor_def=ray_executor,
    config={"execution": {"config": {"address": "http://127.0.0.1:9", "unreachable_timeout": 1.0}}},
)
def default_config() -> None:
    one()


@dg.job(
    executor_def=dg.in_process_executor,
    resource_defs={"io_manager": RayIOManager(backend="files", directory="values")},
)
def stores() -> None:
    one()
