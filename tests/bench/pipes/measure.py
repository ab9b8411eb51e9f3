"""One package's Pipes client on a Ray of its own: lines per second, and the delay of a message.

`python measure.py NAME`: prints one JSON document.
"""

import json
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import dagster as dg
import ray

LINES = int(os.environ.get("LINES_OF_OUTPUT", "3000000"))
MESSAGES = 100

MANY = """
import sys
from dagster_pipes import open_dagster_pipes

with open_dagster_pipes() as context:
    block = "".join(f"line {{n}} of a script that prints a lot\\n" for n in range(1000))
    for _ in range({lines} // 1000):
        sys.stdout.write(block)
    sys.stdout.flush()
    context.report_custom_message("done")
"""

SLOW = """
import time
from dagster_pipes import open_dagster_pipes

with open_dagster_pipes() as context:
    time.sleep(2)
    for number in range({messages}):
        context.report_custom_message(time.time())
        time.sleep(0.0731)
"""


def main() -> None:
    from dagster_ray import PipesRayJobClient

    ray.init(address="local", include_dashboard=True, num_cpus=2, log_to_driver=False)
    address = f"http://{ray._private.worker._global_node.webui_url}"  # type: ignore[union-attr]
    folder = Path(tempfile.mkdtemp())

    def run(name: str, body: str) -> tuple[float, list[Any]]:
        # One for each run: the other package's serves a single one.
        client = PipesRayJobClient(address=address)
        file = folder / f"{name}.py"
        file.write_text(body)

        @dg.op
        def scripted(context: dg.OpExecutionContext) -> None:
            entrypoint = f"{sys.executable} {file}"
            done = client.run(context=context, submit_job_params={"entrypoint": entrypoint})  # type: ignore[arg-type]
            received.extend(done.get_custom_messages())

        @dg.job
        def one() -> None:
            scripted()

        received: list[Any] = []
        began = time.monotonic()
        one.execute_in_process()
        return time.monotonic() - began, received

    from dagster._core.pipes.context import PipesMessageHandler

    delays: list[float] = []
    arrived: list[float] = []
    handle = PipesMessageHandler.handle_message

    def timed(self: PipesMessageHandler, message: Any) -> None:
        arrived.append(time.monotonic())
        if message["method"] == "report_custom_message" and message["params"]["payload"] != "done":
            delays.append(time.time() - message["params"]["payload"])
        handle(self, message)

    PipesMessageHandler.handle_message = timed  # type: ignore[method-assign]
    nothing, _ = run("nothing", MANY.format(lines=0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = LINES
    while True:
        arrived.clear()
        _, received = run("many", MANY.format(lines=lines))
        if received == ["done"]:
            break
        # The message behind the last line was lost: fewer lines, so that there is a rate at all.
        lines //= 3
        assert lines, "no message arrives"
    # From the message that opens the session to the one behind the last line.
    seconds = arrived[1] - arrived[0]
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run("slow", SLOW.format(messages=MESSAGES))
    figures = {
        "nothing": nothing,
        "lines_per_second": lines / seconds,
        "whole": lines,
        "grown_mib": (after - before) / 1024,
        "delay": statistics.median(delays) if delays else None,
        "delivered": len(delays),
    }
    # What is printed before is the script's output.
    print("\n" + json.dumps(figures))
    ray.shutdown()


if __name__ == "__main__":
    main()
