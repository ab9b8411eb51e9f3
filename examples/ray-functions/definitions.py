"""Two assets on Ray: a function's body, and a script. Dagster's steps run where Dagster runs."""

import dagster as dg
from dagster_ray import ray_function, ray_job_asset, ray_job_op


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


@dg.asset
def limit() -> int:
    """A number that Dagster's own process computes."""
    return 1000


@dg.asset
@ray_function(num_cpus=1)
def primes(context: dg.AssetExecutionContext, limit: int) -> list[int]:
    """The prime numbers. This body runs on Ray: `limit` and the result travel as values."""
    found = [number for number in range(limit) if _is_prime(number)]
    context.log.info("there are %s primes below %s", len(found), limit)
    context.add_output_metadata({"primes": len(found)})
    return found


# A script that reports through Dagster Pipes.
histogram = ray_job_asset(
    "python histogram.py",
    dg.AssetSpec("histogram", deps=["limit"]),
    runtime_env={"working_dir": "scripts"},
    num_cpus=1,
    extras={"below": 1000},
)

# Any command can be an op of a job.
clean = ray_job_op.configured({"entrypoint": "echo 'nothing is left over'"}, name="clean")


@dg.job
def cleanup() -> None:
    """Runs one command on Ray."""
    clean()


defs = dg.Definitions(
    assets=[limit, primes, histogram], jobs=[cleanup], executor=dg.in_process_executor
)
