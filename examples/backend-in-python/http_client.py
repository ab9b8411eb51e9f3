"""An HTTP client on ``wasi:http``. A component has no sockets, so ``urllib`` does not work.

Requests have no token: the host adds it to requests to the configured address.
"""

from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from componentize_py_types import Err, Ok
from options import invalid
from wit_world.imports import monotonic_clock, outgoing_handler, poll
from wit_world.imports.model import Denial, Error_Denied, Error_Unavailable, RetryHint
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import (
    ErrorCode,
    ErrorCode_HttpRequestDenied,
    Fields,
    IncomingResponse,
    Method_Delete,
    Method_Get,
    Method_Post,
    Method_Put,
    OutgoingBody,
    OutgoingRequest,
    Scheme_Http,
    Scheme_Https,
)

_METHODS = {
    "DELETE": Method_Delete,
    "GET": Method_Get,
    "POST": Method_Post,
    "PUT": Method_Put,
}
_SCHEMES = {"http": Scheme_Http, "https": Scheme_Https}
# The most bytes that `blocking-write-and-flush` of `wasi:io` accepts.
_PIECE = 4096
_READ = 64 << 10
_QUIET_SECONDS = 60.0


class Response:
    """A response whose head has arrived."""

    def __init__(self, response: IncomingResponse) -> None:
        self.status = response.status()
        self.ended = False
        self._response = response
        self._body = response.consume()
        self._stream = self._body.stream()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drops the resources, each child before its parent."""
        for resource in (self._stream, self._body, self._response):
            resource.__exit__(None, None, None)

    def read(self, within_seconds: float) -> bytes:
        """Returns the next bytes; none at the end, or if none arrive in time."""
        with (
            self._stream.subscribe() as readable,
            monotonic_clock.subscribe_duration(int(within_seconds * 1e9)) as late,
        ):
            if 0 not in poll.poll([readable, late]):
                return b""
        try:
            return self._stream.read(_READ)
        except Err as error:
            if isinstance(error.value, StreamError_Closed):
                self.ended = True
                return b""
            raise _broken("the response", error.value.value.to_debug_string()) from error

    def read_all(self) -> bytes:
        parts = []
        while not self.ended:
            part = self.read(_QUIET_SECONDS)
            if not part and not self.ended:
                raise _broken("the response", f"no data for {_QUIET_SECONDS:.0f} s")
            parts.append(part)
        return b"".join(parts)


def send(method: str, url: str, body: bytes) -> Response:
    """Sends a request and waits for the head of the response."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or not parts.netloc:
        invalid("address", f"{url!r} is not an HTTP URL", "write http://host:port")
    length = str(len(body)).encode()
    request = OutgoingRequest(Fields.from_list([("content-length", length)]))
    request.set_method(_METHODS[method]())
    request.set_scheme(_SCHEMES[parts.scheme]())
    request.set_authority(parts.netloc)
    request.set_path_with_query(f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}")
    outgoing = request.body()
    try:
        pending = outgoing_handler.handle(request, None)
    except Err as error:
        raise _explained(url, error.value) from error
    with pending:
        _write(outgoing, body)
        with pending.subscribe() as ready:
            ready.block()
        match pending.get():
            case Ok(Ok(response)):
                return Response(response)
            case Ok(Err(code)):
                raise _explained(url, code)
            case _:
                raise _broken(url, "the response was lost")


def _write(outgoing: OutgoingBody, body: bytes) -> None:
    try:
        with outgoing.write() as stream:
            for first in range(0, len(body), _PIECE):
                stream.blocking_write_and_flush(body[first : first + _PIECE])
        OutgoingBody.finish(outgoing, None)
    except Err:
        # A server that responds early stops reading. The response contains the reason.
        return


def _broken(what: str, how: str) -> Err[Error_Unavailable]:
    """Returns the error for a broken connection: the request may have been applied."""
    return Err(Error_Unavailable(RetryHint(f"{what}: {how}", None, maybe_applied=True)))


def _explained(url: str, code: ErrorCode) -> Err[Error_Denied] | Err[Error_Unavailable]:
    if isinstance(code, ErrorCode_HttpRequestDenied):
        # The host fills in the grant that would allow the request.
        return Err(Error_Denied(Denial("http", url, "")))
    return _broken(url, str(code))
