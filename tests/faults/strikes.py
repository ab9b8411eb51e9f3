"""The faults, as context managers around the operation that they disturb."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from typing import Any

from lab import Lab
from operations import Operation
from processes import wait_for

Strike = Callable[[Lab, Operation], AbstractContextManager[None]]
# The pause that an overloaded dashboard asks for, in seconds.
RETRY_AFTER = 3
# The time within which Ray ends the jobs of a node that is gone, in seconds.
NODE_END = 10
# The time after which a started daemon has checked all runs, in seconds.
DAEMON_START = 12


def answers(what: int | str, seconds: float, **more: Any) -> Strike:
    """The fault hits every request of the operation, from the first one for so many seconds."""

    @contextmanager
    def strike(lab: Lab, operation: Operation) -> Iterator[None]:
        needs = operation.requests
        with lab.proxy.inject(
            needs.method, needs.path, what, contains=needs.contains, **more
        ) as fault:
            yield
            wait_for("a request that the fault hits", lambda: fault.hits, 90, 0.05)
            time.sleep(seconds)

    return strike


def once(what: int | str, **more: Any) -> Strike:
    """The fault hits one request of the operation."""
    return answers(what, 0.5, times=1, **more)


@contextmanager
def asks_to_wait(lab: Lab, operation: Operation) -> Iterator[None]:
    """The dashboard answers 429 with Retry-After once, and no request comes before that time."""
    needs = operation.requests
    headers = {"Retry-After": str(RETRY_AFTER)}
    with lab.proxy.inject(
        needs.method, needs.path, 429, 1, contains=needs.contains, headers=headers
    ) as fault:
        yield
        wait_for("a request that the fault hits", lambda: fault.hits, 90, 0.05)
        time.sleep(RETRY_AFTER + 1)
    hit = fault.first_hit
    assert hit is not None
    same = [one.at for one in lab.proxy.requests if one.path == hit.path and one.at >= hit.at]
    pauses = [later - earlier for earlier, later in pairwise(same)]
    assert not pauses or pauses[0] >= RETRY_AFTER - 0.1, f"asked again after {pauses[0]:.1f} s"


def at_request(target: str, sign: signal.Signals, *, after: bool) -> Strike:
    """A signal ends a process of the deployment at a request; then the process starts again."""

    @contextmanager
    def strike(lab: Lab, operation: Operation) -> Iterator[None]:
        needs = operation.requests

        def end() -> None:
            lab.deployment.signal(target, sign)
            # A killed process must not read the response.
            time.sleep(0.3)

        with lab.proxy.at_request(
            needs.method, needs.path, end, after=after, contains=needs.contains
        ) as trigger:
            yield
            assert trigger.done.wait(90), "the operation sent no request"
        _start(lab, target)

    return strike


def _start(lab: Lab, name: str) -> None:
    lab.deployment.start(name)
    if name == "daemon":
        time.sleep(DAEMON_START)


def worker_at_request(sign: signal.Signals, *, after: bool, of_step: bool = False) -> Strike:
    """A signal ends the process that sends the operation's request."""

    @contextmanager
    def strike(lab: Lab, operation: Operation) -> Iterator[None]:
        needs = operation.requests

        def end() -> None:
            operation.kill(sign, of_step=of_step)
            time.sleep(0.3)

        with lab.proxy.at_request(
            needs.method, needs.path, end, after=after, contains=needs.contains
        ) as trigger:
            yield
            assert trigger.done.wait(90), "the operation sent no request"

    return strike


def worker(sign: signal.Signals, *, of_step: bool) -> Strike:
    """A signal ends the worker of the run or of its step."""

    @contextmanager
    def strike(lab: Lab, operation: Operation) -> Iterator[None]:
        operation.kill(sign, of_step=of_step)
        yield

    return strike


def restarts(name: str, sign: signal.Signals = signal.SIGKILL) -> Strike:
    """A process of the deployment ends and starts again two seconds later."""

    @contextmanager
    def strike(lab: Lab, operation: Operation) -> Iterator[None]:
        lab.deployment.signal(name, sign)
        yield
        time.sleep(2)
        _start(lab, name)

    return strike


@contextmanager
def dashboard_restarts(lab: Lab, operation: Operation) -> Iterator[None]:
    yield
    lab.head.restart_dashboard()


@contextmanager
def token_expires(lab: Lab, operation: Operation) -> Iterator[None]:
    """Ray rejects the token of all clients for ten seconds."""
    lab.head.token_path.write_text("0" * 32)
    yield
    time.sleep(10)
    lab.head.token_path.write_text(lab.head.token)


def ray_ends(*programs: str, restarts: bool = False) -> Strike:
    """These programs of Ray, or all of them, are killed; a new head may take their place."""

    @contextmanager
    def strike(lab: Lab, operation: Operation) -> Iterator[None]:
        lab.is_broken = True
        yield
        lab.head.kill(*programs)
        time.sleep(NODE_END)
        if restarts:
            lab.head.start()

    return strike


@contextmanager
def nothing(lab: Lab, operation: Operation) -> Iterator[None]:
    """No fault besides what the operation itself does."""
    yield
