"""The load server, which also reports the end of the steps when all are in flight.

`python server.py WIDTH SECONDS`: SECONDS after step WIDTH was submitted, it writes the events that
the steps' workers would write, into the instance of `DAGSTER_HOME`.
"""

import asyncio
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import dagster as dg
from aiohttp import web
from dagster._core.definitions.dependency import NodeHandle
from dagster._core.events import DagsterEvent, StepSuccessData
from dagster._core.execution.plan.handle import StepHandle
from load_server import Server

WIDTH, SECONDS = int(sys.argv[1]), float(sys.argv[2])


class ScaleServer(Server):
    """Ends the steps of one run."""

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[str, float] = {}

    async def submit(self, request: web.Request) -> web.Response:
        answer = await super().submit(request)
        if len(self.jobs) == WIDTH:
            self.times["in_flight"] = time.time()
            threading.Thread(target=self.end_all, daemon=True).start()
        return answer

    async def result(self, request: web.Request) -> web.Response:
        del request
        measured = {"requests": self.requests, "connections": self.connections, **self.times}
        return web.json_response(measured)

    def end_all(self) -> None:
        time.sleep(SECONDS)
        with dg.DagsterInstance.get() as instance:
            for job in list(self.jobs.values()):
                metadata = job["metadata"]
                assert isinstance(metadata, dict)
                instance.report_dagster_event(
                    success(metadata["dagster/op"]), metadata["dagster/run-id"]
                )
                job["status"] = "SUCCEEDED"
        self.times["ended"] = time.time()


def success(key: str) -> DagsterEvent:
    handle = StepHandle(NodeHandle(key, None), key)
    return DagsterEvent(
        event_type_value=dg.DagsterEventType.STEP_SUCCESS.value,
        job_name="wide",
        step_handle=handle,
        node_handle=handle.node_handle,
        step_kind_value="COMPUTE",
        event_specific_data=StepSuccessData(duration_ms=1.0),
        message=f'Finished execution of step "{key}".',
    )


async def main() -> None:
    await ScaleServer().start()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
