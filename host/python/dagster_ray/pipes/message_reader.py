"""Reads Dagster Pipes messages from a script's output."""

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, cast

from dagster import PipesMessageReader
from dagster_pipes import PIPES_PROTOCOL_VERSION_FIELD, PipesDefaultMessageWriter

from dagster_ray.contract import Output
from dagster_ray.dagster_internals import PipesMessageHandler
from dagster_ray.dagster_typing import log_observation
from dagster_ray.pipes.session import forward
from dagster_ray.training import observations

_FIELD = f'"{PIPES_PROTOCOL_VERSION_FIELD}"'.encode()
_DECODER = json.JSONDecoder()


class PipesRayJobMessageReader(PipesMessageReader):
    """Reads Pipes messages from the output of a Ray job.

    A reader holds no session state, so one reader can serve many runs concurrently.
    """

    def __init__(self, job_submission_client_kwargs: dict[str, Any] | None = None) -> None:
        self.job_submission_client_kwargs = job_submission_client_kwargs

    @contextmanager
    def read_messages(self, handler: PipesMessageHandler) -> Generator[dict[str, str], None, None]:
        yield {PipesDefaultMessageWriter.STDIO_KEY: PipesDefaultMessageWriter.STDOUT}

    def no_messages_debug_text(self) -> str:
        return (
            "Messages are read from the output of the Ray job. Does its entrypoint call "
            "open_dagster_pipes, and is dagster-pipes installed there?"
        )

    def output_callback(self, handler: PipesMessageHandler) -> Output:
        """Returns a callback that takes a job's output in whole lines.

        It passes messages to Dagster and all other text to the streams that Dagster captures.
        """

        def receive(channel: str, text: bytes) -> None:
            if _FIELD not in text:
                forward(channel, text)
                return
            plain = bytearray()
            for line in text.splitlines(keepends=True):
                for part in _parts(line):
                    if isinstance(part, bytes):
                        plain += part
                        continue
                    if plain:
                        forward(channel, bytes(plain))
                        plain.clear()
                    if not _observed(handler, part):
                        handler.handle_message(part)  # type: ignore[arg-type]
            if plain:
                forward(channel, bytes(plain))

        return receive


def _observed(handler: PipesMessageHandler, message: dict[str, Any]) -> bool:
    """Logs the observation that a training script reports while it runs, if it is one."""
    if message["method"] != "report_custom_message":
        return False
    found = observations.found(message["params"]["payload"])
    if found is None:
        return False
    log_observation(handler, *found)
    return True


def _parts(line: bytes) -> Iterator[bytes | dict[str, Any]]:
    """Splits a line into its messages (dictionaries) and the text around them (bytes).

    Ray merges standard error into the output, so a message may follow an unfinished line, such as
    a progress bar.
    """
    at = line.find(_FIELD)
    while at >= 0:
        for start in dict.fromkeys((line.rfind(b"{", 0, at), line.find(b"{", 0, at))):
            message, length = _message(line, start)
            if message is not None:
                break
        else:
            break
        if start:
            yield line[:start]
        yield message
        alone = start == 0
        line = line[start + length :]
        at = line.find(_FIELD)
        if alone and not line.strip():
            return
    yield line


def _message(line: bytes, start: int) -> tuple[dict[str, object] | None, int]:
    if start < 0:
        return None, 0
    text = line[start:].decode("utf-8", "replace")
    try:
        message, end = _DECODER.raw_decode(text)
    except ValueError:
        return None, 0
    if not isinstance(message, dict) or PIPES_PROTOCOL_VERSION_FIELD not in message:
        return None, 0
    return cast("dict[str, object]", message), len(text[:end].encode("utf-8"))
