"""Finds, awaits and kills the processes that tests start."""

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(
    title: str, probe: Callable[[], T | None], seconds: float = 60, pause: float = 0.2
) -> T:
    """Polls `probe` until it returns a truthy value, and returns that value."""
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < deadline, f"{title}: not within {seconds} s"
        time.sleep(pause)


def command_lines() -> dict[int, str]:
    """Returns the command lines of all live processes by pid."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if line:
            found[int(entry.name)] = line
    return found


def descendants(root: int) -> set[int]:
    """Returns the pids of all descendants of a process.

    A process whose parent has exited was adopted by init and is not found.
    """
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found: set[int] = set()
    waiting = [root]
    while waiting:
        for child in children.get(waiting.pop(), []):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


def kill(pid: int, sign: int = signal.SIGKILL) -> None:
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        return
