"""A proxy in front of Ray's dashboard that records requests and injects faults."""

import http.client
import random
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

# How many of the connections a lossy network breaks, and how long it delays a request, in seconds.
LOSS, DELAY = 0.3, (0.2, 1.0)


@dataclass
class Request:
    method: str
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    # Seconds of `time.monotonic`.
    at: float = field(default_factory=time.monotonic)


@dataclass
class Fault:
    """A fault injected into requests with this method whose path matches the pattern.

    `what` is a status to respond with, or one of these:

    - `lost`: Ray gets the request, and its response is dropped.
    - `half`: Ray gets the request, and the connection ends after half of the response's body.
    - `reset`: Ray does not get the request, and the connection is reset.
    - `held`: the request waits until the fault ends, as in a network partition.
    - `lossy`: each request is delayed, and some connections are reset before or after Ray.
    """

    method: str
    path: str
    what: int | str
    times: int = 1_000_000
    hits: int = 0
    first_hit: Request | None = None
    # A text that the body of the request contains.
    contains: str = ""
    # Headers of the response with the status `what`.
    headers: Mapping[str, str] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    def applies_to(self, request: Request) -> bool:
        return (
            re.fullmatch(self.method, request.method) is not None
            and self.hits < self.times
            and re.fullmatch(self.path, request.path) is not None
            and self.contains.encode() in request.body
        )


@dataclass
class Trigger:
    """An action at the first matching request. Before Ray gets the request, it also drops it."""

    matches: Fault
    after: bool
    action: Callable[[], object]
    done: threading.Event = field(default_factory=threading.Event)


class FaultProxy:
    def __init__(self, upstream: str, tls: ssl.SSLContext | None = None) -> None:
        """Starts the proxy. With `tls`, it serves HTTPS with the certificate of this context."""
        self.redirect(upstream)
        self.requests: list[Request] = []
        self.connections = 0
        self.faults: list[Fault] = []
        self._triggers: list[Trigger] = []
        self._random = random.Random(0)
        self._streams: set[socket.socket] = set()
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                with proxy._lock:
                    proxy.connections += 1

            def log_message(self, format: str, *args: Any) -> None:
                return

            def handle_any(self) -> None:
                proxy._serve(self)

            do_GET = do_POST = do_PUT = do_DELETE = handle_any

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                return

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            # The thread of each connection does the handshake, so a failed one delays no other.
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @classmethod
    @contextmanager
    def start(cls, upstream: str, tls: ssl.SSLContext | None = None) -> "Iterator[FaultProxy]":
        proxy = cls(upstream, tls)
        try:
            yield proxy
        finally:
            proxy.close()

    def redirect(self, upstream: str) -> None:
        """Sends the next requests to another server."""
        target = urlsplit(upstream)
        self._upstream = (target.hostname or "", target.port or 80)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def break_streams(self) -> None:
        """Shuts down the connection of every open log stream."""
        with self._lock:
            streams = set(self._streams)
        for stream in streams:
            try:
                stream.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    @contextmanager
    def inject(
        self, method: str, path: str, what: int | str, times: int = 1_000_000, **more: Any
    ) -> Iterator[Fault]:
        fault = Fault(method, path, what, times, **more)
        self.faults.append(fault)
        try:
            yield fault
        finally:
            self.faults.remove(fault)
            fault.over.set()

    @contextmanager
    def at_request(
        self,
        method: str,
        path: str,
        action: Callable[[], object],
        *,
        after: bool,
        contains: str = "",
    ) -> Iterator[Trigger]:
        """Runs the action at the first matching request, in place of it or after it."""
        trigger = Trigger(Fault(method, path, "", 1, contains=contains), after, action)
        self._triggers.append(trigger)
        try:
            yield trigger
        finally:
            self._triggers.remove(trigger)

    def recorded(self, method: str, path: str) -> list[Request]:
        """Returns the requests with this method whose whole path matches the pattern."""
        return [r for r in self.requests if r.method == method and re.fullmatch(path, r.path)]

    def reset(self) -> None:
        with self._lock:
            self.requests.clear()
            self.connections = 0

    def _fault(self, request: Request) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.applies_to(request):
                    fault.hits += 1
                    fault.first_hit = fault.first_hit or request
                    return fault
        return None

    def _run_triggers(self, request: Request, *, after: bool) -> bool:
        """Runs the actions at a request, and returns whether there were any."""
        with self._lock:
            reached = [
                trigger
                for trigger in self._triggers
                if trigger.after == after and trigger.matches.applies_to(request)
            ]
            for trigger in reached:
                trigger.matches.hits += 1
        for trigger in reached:
            trigger.action()
            trigger.done.set()
        return bool(reached)

    def _effect(self, fault: Fault | None) -> int | str | None:
        """Waits as the fault demands, and returns what happens to this request."""
        if fault is None:
            return None
        if fault.what == "held":
            fault.over.wait()
            return None
        if fault.what == "lossy":
            with self._lock:
                pause, chance = self._random.uniform(*DELAY), self._random.random()
            time.sleep(pause)
            return None if chance >= LOSS else "reset" if chance < LOSS / 2 else "lost"
        return fault.what

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        request = Request(handler.command, handler.path, body, dict(handler.headers))
        fault = self._fault(request)
        if self._run_triggers(request, after=False):
            _reset(handler)
            return
        effect = self._effect(fault)
        if fault is not None and isinstance(effect, int):
            self._respond(handler, effect, list(fault.headers.items()), b"injected")
            return
        if effect == "reset":
            _reset(handler)
            return
        upstream = http.client.HTTPConnection(*self._upstream, timeout=60)
        try:
            headers = {k: v for k, v in request.headers.items() if k.lower() != "connection"}
            upstream.request(request.method, request.path, body or None, headers)
            response = upstream.getresponse()
            is_stream = request.path.startswith("/api/v0/logs/stream") and response.status == 200
            if is_stream and effect != "lost":
                self._run_triggers(request, after=True)
                self._stream(handler, response, is_cut=effect == "half")
                return
            content = response.read()
        finally:
            upstream.close()
        self._run_triggers(request, after=True)
        if effect == "lost":
            handler.close_connection = True
            handler.connection.close()
            return
        half = len(content) // 2 if effect == "half" else None
        self._respond(handler, response.status, response.getheaders(), content, half)

    def _stream(
        self,
        handler: BaseHTTPRequestHandler,
        response: http.client.HTTPResponse,
        *,
        is_cut: bool,
    ) -> None:
        handler.close_connection = True
        with self._lock:
            self._streams.add(handler.connection)
        try:
            handler.send_response(response.status)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            while piece := response.read1(1 << 16):
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                if is_cut:
                    return
            handler.wfile.write(b"0\r\n\r\n")
        except OSError:
            # The client has closed the connection, or `break_streams` has shut it down.
            return
        finally:
            with self._lock:
                self._streams.discard(handler.connection)

    def _respond(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        headers: list[tuple[str, str]],
        body: bytes,
        sent: int | None = None,
    ) -> None:
        """Sends a response. `sent` ends the connection after so many bytes of the body."""
        handler.send_response(status)
        for name, value in headers:
            if name.lower() in ("content-type", "retry-after"):
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:sent])
        if sent is not None:
            handler.close_connection = True


def _reset(handler: BaseHTTPRequestHandler) -> None:
    """Closes a connection with a TCP reset: a lingering time of 0 discards what is not sent."""
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
