"""A user's project for the tests of the simulation. Nothing in it refers to the simulation."""

import os
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
from dagster_ray import PipesRayJobClient, RayIOManager, RayResource, ray_executor
from dagster_ray.kuberay import KubeRayCluster, PipesKubeRayJobClient

AGAIN = dg.RetryPolicy(max_retries=6)


@dg.op(out=dg.Out(io_manager_key="values"))
def load() -> list[int]:
    return [1, 2, 3]


@dg.op(out=dg.Out(io_manager_key="values"), retry_policy=AGAIN)
def train(context: dg.OpExecutionContext, rows: list[int]) -> int:
    context.log.info(f"trained as {os.environ['DAGSTER_RUN_STEP_KEY']}, try {context.retry_number}")
    return sum(rows)


@dg.job(executor_def=ray_executor.configured({"ray": {"num_cpus": 1}}))
def training() -> None:
    train(load())


@dg.op
def broken() -> None:
    raise ValueError("the input file is damaged")


@dg.job(executor_def=ray_executor)
def breaking() -> None:
    broken()


@dg.op
def exits() -> None:
    os._exit(0)


@dg.job(executor_def=ray_executor)
def exiting() -> None:
    for name in ("first", "second", "third"):
        exits.alias(name)()


@dg.op
def endless(context: dg.OpExecutionContext) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(os.environ["PIDS"]).write_text(f"{os.getpid()} {child.pid}")
    context.log.info("the step is waiting")
    time.sleep(600)


@dg.job(
    executor_def=ray_executor,
    tags={"dagster-ray/config": {"image": "only-kuberay-knows", "num_cpus": 0}},
)
def waiting() -> None:
    endless()


@dg.asset
def scripted(context: dg.AssetExecutionContext, pipes: PipesRayJobClient):
    command = f"{sys.executable} {os.environ['SCRIPT']}"
    invocation = pipes.run(context=context, submit_job_params={"entrypoint": command})
    return invocation.get_materialize_result()


@dg.asset
def scripted_on_kubernetes(context: dg.AssetExecutionContext, kuberay_pipes: PipesKubeRayJobClient):
    spec = {"entrypoint": f"{sys.executable} {os.environ['SCRIPT']}", "rayClusterSpec": {}}
    invocation = kuberay_pipes.run(context=context, ray_job={"spec": spec})
    return invocation.get_materialize_result()


@dg.asset
def on_a_cluster(cluster: RayResource) -> str:
    assert cluster.connected
    return cluster.name


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
def partitioned(context: dg.AssetExecutionContext) -> str:
    return f"value of {context.partition_key}"


defs = dg.Definitions(
    assets=[scripted, scripted_on_kubernetes, on_a_cluster, partitioned],
    jobs=[
        training,
        breaking,
        exiting,
        waiting,
        dg.define_asset_job("scripts", [scripted, scripted_on_kubernetes]),
        dg.define_asset_job("clusters", [on_a_cluster]),
        dg.define_asset_job("partitions", [partitioned]),
    ],
    executor=dg.in_process_executor,
    resources={
        # None of these addresses exists: the simulation has to redirect all of them.
        "pipes": PipesRayJobClient(address="http://no.such.host:8265"),
        "kuberay_pipes": PipesKubeRayJobClient(),
        "cluster": KubeRayCluster(image="no/such/image", timeout=300),
        "values": RayIOManager(address="ray://no.such.host:10001"),
    },
)
