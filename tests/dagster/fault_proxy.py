"""A proxy in front of Ray's dashboard that records requests and injects faults."""

import http.client
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Fault:
    """A fault injected into requests with this method whose path matches the pattern."""

    method: str
    path: str
    # A status to respond with, or `lost`: Ray gets the request, and its response is dropped.
    what: int | str
    times: int = 1_000_000
    hits: int = 0


@dataclass
class Request:
    method: str
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


class FaultProxy:
    def __init__(self, upstream: str, tls: ssl.SSLContext | None = None) -> None:
        """Starts the proxy. With `tls`, it serves HTTPS with the certificate of this context."""
        self.redirect(upstream)
        self.requests: list[Request] = []
        self.connections = 0
        self.faults: list[Fault] = []
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
        self, method: str, path: str, what: int | str, times: int = 1_000_000
    ) -> Iterator[Fault]:
        fault = Fault(method, path, what, times)
        self.faults.append(fault)
        try:
            yield fault
        finally:
            self.faults.remove(fault)

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
                if (
                    fault.method == request.method
                    and fault.hits < fault.times
                    and re.fullmatch(fault.path, request.path)
                ):
                    fault.hits += 1
                    return fault
        return None

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        request = Request(handler.command, handler.path, body, dict(handler.headers))
        fault = self._fault(request)
        if fault is not None and isinstance(fault.what, int):
            self._respond(handler, fault.what, [], b"injected")
            return
        upstream = http.client.HTTPConnection(*self._upstream, timeout=60)
        try:
            headers = {k: v for k, v in request.headers.items() if k.lower() != "connection"}
            upstream.request(request.method, request.path, body or None, headers)
            response = upstream.getresponse()
            if request.path.startswith("/api/v0/logs/stream") and response.status == 200:
                self._stream(handler, response)
                return
            content = response.read()
        finally:
            upstream.close()
        if fault is not None:
            handler.close_connection = True
            handler.connection.close()
            return
        self._respond(handler, response.status, response.getheaders(), content)

    def _stream(self, handler: BaseHTTPRequestHandler, response: http.client.HTTPResponse) -> None:
        handler.close_connection = True
        with self._lock:
            self._streams.add(handler.connection)
        try:
            handler.send_response(response.status)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            while piece := response.read1(1 << 16):
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
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
    ) -> None:
        handler.send_response(status)
        for name, value in headers:
            if name.lower() == "content-type":
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
