"""Does what the package from PyPI does for launches and checks. Prints a JSON object.

`python pypi.py CASE URL NUMBER`, as own.py. Its step handler submits each step with Ray's client,
one after the other, and asks for the status of each step.
"""

import json
import sys
import time

from ray.job_submission import JobSubmissionClient


def launch(client: JobSubmissionClient, number: int) -> list[str]:
    environment = {"env_vars": {"DAGSTER_COMPRESSED_EXECUTE_STEP_ARGS": "x" * 1000}}
    return [
        client.submit_job(
            entrypoint="dagster api execute_step",
            submission_id=f"step-{one}",
            runtime_env=environment,
            metadata={"dagster/run-id": "0" * 36},
        )
        for one in range(number)
    ]


def main() -> None:
    case, url, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
    client = JobSubmissionClient(url)
    names = launch(client, 1 if case == "launch" else number)
    client.get_job_status(names[0])
    before = time.perf_counter()
    if case == "launch":
        launch(client, number)
    else:
        for name in names:
            client.get_job_status(name)
    sys.stdout.write(json.dumps({"seconds": time.perf_counter() - before}) + "\n")


if __name__ == "__main__":
    main()
