"""Measures the Pipes client of one package on a separate Ray. Prints one JSON document.

`python measure.py delay`: the delay of a message, and the time of a script that prints nothing.
`python measure.py lines COUNT`: the rate and memory of COUNT lines of output, and whether the
message after them arrived. Each attempt is a new process, so attempts do not affect each other.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import ray

MESSAGES = 100
# Runs a script with this name and text, and returns its seconds and its custom messages.
Run = Callable[[str, str], tuple[float, list[Any]]]

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


def delay(run: Run, arrived: list[tuple[float, Any]]) -> dict[str, Any]:
    nothing, _ = run("nothing", MANY.format(lines=0))
    arrived.clear()
    run("slow", SLOW.format(messages=MESSAGES))
    delays = [
        at - message["params"]["payload"]
        for at, message in arrived
        if message["method"] == "report_custom_message"
    ]
    return {
        "nothing": nothing,
        "delay": statistics.median(delays) if delays else None,
        "delivered": len(delays),
    }


def lines(run: Run, arrived: list[tuple[float, Any]], count: int) -> dict[str, Any]:
    # The first run loads modules, which must not count as memory of the lines.
    run("nothing", MANY.format(lines=0))
    arrived.clear()
    before = _reset_peak()
    _, received = run("many", MANY.format(lines=count))
    if received != ["done"]:
        return {"arrived": False}
    # The time from the message that opens the session to the message after the last line.
    (opened, _), (done, _) = arrived[:2]
    return {
        "arrived": True,
        "lines_per_second": count / (done - opened),
        "grown_mib": (_peak() - before) / (1 << 20),
    }


def _reset_peak() -> int:
    """Resets the peak memory of this process and returns it, in bytes (proc_pid_clear_refs(5))."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def main() -> None:
    from dagster._core.pipes.context import PipesMessageHandler
    from dagster_ray import PipesRayJobClient

    ray.init(address="local", include_dashboard=True, num_cpus=2, log_to_driver=False)
    address = f"http://{ray._private.worker._global_node.webui_url}"  # type: ignore[union-attr]
    folder = Path(tempfile.mkdtemp())

    def run(name: str, body: str) -> tuple[float, list[Any]]:
        # The client of PyPI's package can run only one script, so each run gets a new client.
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

    arrived: list[tuple[float, Any]] = []
    handle = PipesMessageHandler.handle_message

    def timed(self: PipesMessageHandler, message: Any) -> None:
        arrived.append((time.time(), message))
        handle(self, message)

    PipesMessageHandler.handle_message = timed  # type: ignore[method-assign]
    what, *more = sys.argv[1:]
    figures = delay(run, arrived) if what == "delay" else lines(run, arrived, int(more[0]))
    # The line before may be unfinished output of the script.
    print("\n" + json.dumps(figures))
    ray.shutdown()


if __name__ == "__main__":
    main()
