"""How long Ray may be unreachable: the circuit breaker, outages and jobs that were given up."""

import threading

import pytest
from dagster_ray.circuit_breaker import CircuitBreaker
from dagster_ray.errors import BackendError, DagsterRayError, UnavailableError
from dagster_ray.given_up import GivenUpJobs
from dagster_ray.reachability import Reachability


class Time:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def _breaker(clock: Time, first_seconds: float = 0.0) -> CircuitBreaker:
    return CircuitBreaker(first_seconds, clock=clock, jitter=lambda: 1.0)


def _fail(error: DagsterRayError) -> None:
    raise error


def test_the_backoff_of_checks_doubles_and_ends_with_a_success() -> None:
    clock = Time()
    breaker = _breaker(clock, 1.0)
    requests: list[float] = []

    def check() -> None:
        requests.append(clock.now - 1_000)
        raise UnavailableError("no answer")

    for _ in range(400):
        with pytest.raises(UnavailableError, match="no answer"):
            breaker.call(check)
        clock.now += 0.25
    assert requests == [0, 1, 3, 7, 15, 31, 61, 91]
    clock.now += 30
    assert breaker.call(lambda: "answer") == "answer"
    # An answer that is an error does not delay the next check.
    for _ in range(2):
        with pytest.raises(BackendError):
            breaker.call(lambda: _fail(BackendError("answered 401")))
    assert breaker.call(lambda: "answer") == "answer"


def test_no_check_comes_before_the_time_that_ray_asks_for() -> None:
    clock = Time()
    breaker = _breaker(clock, 1.0)
    for asked, waited in ((3.0, 3.0), (600.0, 60.0)):
        with pytest.raises(UnavailableError):
            breaker.call(lambda asked=asked: _fail(UnavailableError("429", retry_after=asked)))
        clock.now += waited - 0.1
        with pytest.raises(UnavailableError):
            breaker.call(lambda: pytest.fail("a check that came too early"))
        clock.now += 0.1
        assert breaker.call(lambda: "answer") == "answer"


def test_only_one_check_at_a_time_probes_an_address() -> None:
    clock = Time()
    breaker = _breaker(clock, 1.0)
    with pytest.raises(UnavailableError):
        breaker.call(lambda: _fail(UnavailableError("no answer")))
    clock.now += 1
    probing, end = threading.Event(), threading.Event()

    def slow() -> None:
        probing.set()
        end.wait(30)

    probe = threading.Thread(target=lambda: breaker.call(slow))
    probe.start()
    assert probing.wait(30)
    with pytest.raises(UnavailableError):
        breaker.call(lambda: pytest.fail("a second probe"))
    end.set()
    probe.join()
    assert breaker.call(lambda: "answer") == "answer"


def test_only_time_in_which_checks_failed_counts_as_an_outage() -> None:
    clock = Time()
    messages: list[str] = []
    reachability = Reachability(600, interval=120, breaker=_breaker(clock), clock=clock)

    def failing(count: int, every: float) -> list[bool]:
        finals = []
        for _ in range(count):
            with pytest.raises(UnavailableError) as raised:
                reachability.check(lambda: _fail(UnavailableError("no answer")))
            finals.append(reachability.failed(raised.value, messages.append, "run").is_final)
            clock.now += every
        return finals

    # Checks every two minutes fail for ten minutes.
    assert failing(6, 120) == [False] * 5 + [True]
    reachability.succeeded(messages.append, "run")
    # Without checks in between, two failures are no outage.
    assert failing(2, 3_600) == [False, False]
    assert failing(6, 120) == [False] * 5 + [True]
    # A worker that is known to run begins anew.
    reachability.is_alive("run")
    assert failing(5, 120) == [False] * 4 + [True]
    assert len(messages) == 3, messages


def test_errors_that_the_breaker_repeats_do_not_extend_an_outage() -> None:
    clock = Time()
    reachability = Reachability(20, interval=5, breaker=_breaker(clock, 25.0), clock=clock)
    finals = []
    for _ in range(12):
        try:
            reachability.check(lambda: _fail(UnavailableError("no answer")))
        except UnavailableError as error:
            outage = reachability.failed(error, lambda message: None, "run")
            finals.append((outage.seconds, outage.is_final))
        clock.now += 5
    # Real checks at 0, 25 and 55 seconds.
    assert finals[:5] == [(0, False)] * 5
    assert finals[5:11] == [(25, False)] * 6
    assert finals[11] == (55, True)


class Stop:
    """A call that stops a job, and ends when a test sets its outcome."""

    def __init__(self) -> None:
        self.outcome: str | DagsterRayError | None = None

    def done(self) -> bool:
        return self.outcome is not None

    def result(self, timeout: float | None = None) -> str:
        assert self.outcome is not None
        if isinstance(self.outcome, DagsterRayError):
            raise self.outcome
        return self.outcome

    def cancel(self) -> None:
        return


def _is_missing(end: str) -> bool:
    return end == "missing"


def test_a_job_that_was_given_up_is_stopped_until_its_end_is_confirmed() -> None:
    clock = Time()
    jobs = GivenUpJobs(clock)
    stops: list[Stop] = []
    messages: list[str] = []

    def stop() -> Stop:
        stops.append(Stop())
        return stops[-1]

    jobs.add("late", stop, is_missing=_is_missing, report=messages.append, may_arrive=True)
    assert not stops, "Ray has not answered yet"
    again = UnavailableError("again")
    outcomes: list[str | DagsterRayError] = [again, "missing", "missing", "stopped"]
    for number, outcome in enumerate(outcomes, 1):
        jobs.contact()
        # A contact does not repeat a call in progress.
        jobs.contact()
        assert len(stops) == number
        clock.now += 30
        stops[-1].outcome = outcome
    jobs.contact()
    assert len(stops) == 4 and len(jobs) == 0
    assert "late" in messages[0]

    # A job that does not arrive is forgotten.
    jobs.add("lost", stop, is_missing=_is_missing, report=messages.append, may_arrive=True)
    for _ in range(10):
        jobs.contact()
        stops[-1].outcome = "missing"
        clock.now += 30
    assert len(jobs) == 0 and len(messages) == 1
