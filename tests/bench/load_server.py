"""A server with Ray's Jobs API that executes nothing, for load tests.

`python load_server.py LATENCY_MS [REMEMBERED]` prints its URL. Each answer takes the latency.
`REMEMBERED` ended jobs are in its list, with an environment of a kilobyte each. `GET /measured`
returns the requests so far by kind, and the highest number of connections.
"""

import asyncio
import sys
import time
from collections import Counter

from aiohttp import web


class Server:
    """The state of the server."""

    def __init__(self, latency: float = 0, remembered: int = 0) -> None:
        """`latency` is in seconds."""
        self.latency = latency
        self.jobs: dict[str, dict[str, object]] = {}
        self.requests: Counter[str] = Counter()
        self.connections = 0
        self.runner: web.AppRunner | None = None
        for number in range(remembered):
            environment = {"env_vars": {"ARGUMENTS": "x" * 1000}}
            name = f"raysubmit_{number:08}"
            self.jobs[name] = job(name, "SUCCEEDED", {}, environment)

    @web.middleware
    async def measured(self, request: web.Request, handler: web.RequestHandler) -> web.Response:
        if request.path != "/measured":
            assert self.runner and self.runner.server
            self.connections = max(self.connections, len(self.runner.server.connections))
            self.requests[f"{request.method} {request.match_info.route.resource.canonical}"] += 1
            await asyncio.sleep(self.latency)
        return await handler(request)

    async def version(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": "s"}
        )

    async def submit(self, request: web.Request) -> web.Response:
        asked = await request.json()
        name = asked.get("submission_id") or f"raysubmit_{len(self.jobs)}"
        metadata = asked.get("metadata") or {}
        self.jobs[name] = job(name, "RUNNING", metadata, asked.get("runtime_env") or {})
        return web.json_response({"job_id": name, "submission_id": name})

    async def get(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.jobs:
            return web.Response(status=404, text=f"Job {name} does not exist")
        return web.json_response(self.jobs[name])

    async def delete(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"deleted": self.jobs.pop(request.match_info["name"], None) is not None}
        )

    async def everything(self, _: web.Request) -> web.Response:
        return web.json_response(list(self.jobs.values()))

    async def result(self, _: web.Request) -> web.Response:
        return web.json_response({"requests": self.requests, "connections": self.connections})

    async def start(self) -> None:
        app = web.Application(middlewares=[self.measured], client_max_size=64 << 20)
        app.router.add_get("/measured", self.result)
        app.router.add_get("/api/version", self.version)
        app.router.add_get("/api/jobs/", self.everything)
        app.router.add_post("/api/jobs/", self.submit)
        app.router.add_get("/api/jobs/{name}", self.get)
        app.router.add_delete("/api/jobs/{name}", self.delete)
        self.runner = web.AppRunner(app, access_log=None)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        assert site._server
        port = site._server.sockets[0].getsockname()[1]
        sys.stdout.write(f"http://127.0.0.1:{port}\n")
        sys.stdout.flush()


def job(
    name: str, status: str, metadata: dict[str, str], environment: dict[str, object]
) -> dict[str, object]:
    """Returns Ray's record of a job."""
    return {
        "type": "SUBMISSION",
        "job_id": None,
        "submission_id": name,
        "driver_info": None,
        "status": status,
        "entrypoint": "dagster api execute_step",
        "message": "Job is currently running.",
        "error_type": None,
        "start_time": int(time.time() * 1000),
        "end_time": None,
        "metadata": metadata,
        "runtime_env": environment,
        "driver_agent_http_address": "http://127.0.0.1:52365",
        "driver_node_id": "0" * 56,
        "driver_exit_code": None,
    }


async def main() -> None:
    latency, *remembered = sys.argv[1:]
    await Server(float(latency) / 1000, int(remembered[0]) if remembered else 0).start()
    # Until the parent process closes its end.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
