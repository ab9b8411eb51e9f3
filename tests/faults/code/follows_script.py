"""Materializes an asset whose script runs as a Ray job. Arguments: address, entrypoint, mark."""

import sys

import dagster as dg
from dagster_ray import PipesRayJobClient

address, entrypoint, mark = sys.argv[1:]
# As in the deployment of the lab: longer than each fault, but not than the end of Ray.
UNREACHABLE_TIMEOUT = 25


@dg.asset
def scripted(context: dg.AssetExecutionContext):
    client = PipesRayJobClient(address=address, unreachable_timeout=UNREACHABLE_TIMEOUT)
    print("BEGIN", flush=True)
    done = client.run(
        context=context,
        submit_job_params={"entrypoint": entrypoint, "metadata": {"mark": mark}},
    )
    print("MESSAGES", [message["number"] for message in done.get_custom_messages()], flush=True)
    return done.get_results()


if __name__ == "__main__":
    dg.materialize([scripted])
