"""Functions for code that submits scripts with Ray's `JobSubmissionClient` itself."""

import asyncio
import secrets
import string
from collections.abc import AsyncIterator, Iterator

_ID_LETTERS = 10


def generate_job_id() -> str:
    """Returns a new submission id, such as `pipes-qkzvbnhtre`. No seed makes it repeat."""
    letters = (secrets.choice(string.ascii_lowercase) for _ in range(_ID_LETTERS))
    return f"pipes-{''.join(letters)}"


def tail_logs(tailer: AsyncIterator[str]) -> Iterator[str]:
    """Yields the output that `JobSubmissionClient.tail_job_logs` returns, in the calling thread.

    An error of the connection is raised: the lines after it are not in the output.
    """
    loop = asyncio.new_event_loop()
    try:
        while True:
            try:
                yield loop.run_until_complete(anext(tailer))
            except StopAsyncIteration:
                return
    finally:
        # Closes the connection also if the caller does not read to the end.
        close = getattr(tailer, "aclose", None)
        if close is not None:
            loop.run_until_complete(close())
        loop.close()


__all__ = ["generate_job_id", "tail_logs"]
