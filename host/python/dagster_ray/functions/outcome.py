"""Receives what a function on Ray has returned or raised, from the output of its job."""

import base64
import zlib
from typing import Any, cast

from dagster_ray.contract import Output
from dagster_ray.dagster_internals import PipesMessageHandler
from dagster_ray.errors import SerializationError
from dagster_ray.functions.call import cloudpickle
from dagster_ray.functions.on_ray import PART
from dagster_ray.pipes.message_reader import PipesRayJobMessageReader


class RemoteTraceback(Exception):
    """The traceback on Ray, as the cause of an exception that is raised again."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"on Ray:\n{self.text}"


class FunctionReader(PipesRayJobMessageReader):
    """Reads the messages of one call. It keeps the outcome, and passes on all other messages."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[str] = []
        self._count: int | None = None

    def output_callback(self, handler: PipesMessageHandler) -> Output:
        return super().output_callback(_Handler(handler, self))  # type: ignore[arg-type]

    def receive(self, index: int, count: int, text: str) -> None:
        """Takes a part of the outcome. A script that runs again sends all parts again."""
        if index == 0:
            self._parts = []
        if index == len(self._parts):
            self._parts.append(text)
            self._count = count

    def outcome(self) -> dict[str, Any] | None:
        """Returns the outcome, or `None` if it has not arrived.

        Raises `SerializationError` if it cannot be unpickled in this process.
        """
        if self._count is None or len(self._parts) < self._count:
            return None
        data = zlib.decompress(b"".join(base64.b64decode(part) for part in self._parts))
        try:
            return cloudpickle().loads(data)
        except Exception as error:
            raise SerializationError(
                f"what the function returned or raised cannot be unpickled here: {error}. Its "
                "classes must be importable in the process of the step"
            ) from error


class _Handler:
    """Passes messages to Dagster, except those with parts of the outcome."""

    def __init__(self, handler: PipesMessageHandler, reader: FunctionReader) -> None:
        self._handler = handler
        self._reader = reader

    def handle_message(self, message: Any) -> None:
        if message["method"] == "report_custom_message":
            payload: object = message["params"]["payload"]
            if isinstance(payload, dict) and PART in payload:
                index, count, text = cast("dict[str, tuple[int, int, str]]", payload)[PART]
                self._reader.receive(index, count, text)
                return
        self._handler.handle_message(message)


__all__ = ["FunctionReader", "RemoteTraceback"]
