"""The cells that the harness runs, on the backend `existing`."""

import signal
from typing import Any

import strikes
from cells import Key, Run
from operations import (
    Launch,
    Operation,
    Resume,
    RunFollows,
    Script,
    ScriptFollow,
    ScriptLaunch,
    ScriptTerminate,
    Standing,
    StepLaunch,
    Terminate,
    Timeout,
    UnderWay,
)
from strikes import Strike

KILL, TERM, INT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
# The seconds for which the dashboard answers with an error.
BAD = 4


def _run(operation: type[Operation], strike: Strike, ends: str, holds: str, **more: Any) -> Run:
    return Run(holds, operation, strike, frozenset(ends.split("|")), **more)


_ONE_JOB = "The run is launched as one Ray job, and succeeds."
_ONE_STEP = "The step runs once, and the run succeeds."
_STAYS = "The run and its step stay under way: no worker is started or stopped."
_RESUMED = "The run is resumed by one worker, which adopts the step under way, and succeeds."
_CANCELED = "The run is canceled, and its workers end."
_INTERRUPTED = "The run is resumed, and its step runs once."
# `ray._private.services.start_ray_process`; `JobSupervisor` without RAY_JOB_STOP_SIGNAL.
_BLOCKED = (
    "Ray blocks SIGINT in the processes of its jobs: the step runs once, and the run succeeds."
)
_ONE_RESUMPTION = "The run has at most one worker at a time, and ends in the state that happened."
_MESSAGES = "Each message arrives once and in order, and the script succeeds."
_STOPPED_ENDS = "process ended by 1; script ['STOPPED']|process ended by -2; script ['STOPPED']"
_STOPPED = "The script is stopped, and its process ends with an error."

_HTTP: dict[str, Strike] = {
    "partition": strikes.answers("held", 10),
    "loss": strikes.answers("lossy", 10),
    "reset": strikes.once("reset"),
    "half": strikes.once("half"),
    "lost": strikes.once("lost"),
    "429": strikes.asks_to_wait,
    "5xx": strikes.answers(503, BAD),
}
_OVER_HTTP: dict[str, tuple[type[Operation], str, str]] = {
    "launch": (Launch, "SUCCESS", _ONE_JOB),
    "step-launch": (StepLaunch, "SUCCESS", _ONE_STEP),
    "resume": (Resume, "SUCCESS", _RESUMED),
    "terminate": (Terminate, "CANCELED", _CANCELED),
    "health": (Standing, "STARTED", _STAYS),
    "pipes-launch": (ScriptLaunch, "SUCCESS", _MESSAGES),
    "pipes-follow": (ScriptFollow, "SUCCESS", _MESSAGES),
    "pipes-await": (Script, "SUCCESS", _MESSAGES),
    "pipes-terminate": (
        ScriptTerminate,
        _STOPPED_ENDS,
        _STOPPED,
    ),
}
# What `cargo xtask test` runs of the faults over HTTP.
_QUICK: set[Key] = {
    ("launch", "lost"),
    ("health", "429"),
}

RUNS: dict[Key, Run] = {
    (operation, fault): _run(kind, strike, ends, holds, quick=(operation, fault) in _QUICK)
    for operation, (kind, ends, holds) in _OVER_HTTP.items()
    for fault, strike in _HTTP.items()
}

RUNS |= {
    ("launch", "daemon-9"): _run(
        Launch,
        strikes.at_request("daemon", KILL, after=True),
        "SUCCESS",
        "Killed after the submission: the run is one Ray job, and succeeds.",
        quick=True,
    ),
    ("launch", "sigterm"): _run(
        Launch, strikes.at_request("daemon", TERM, after=False), "SUCCESS|FAILURE", _ONE_JOB
    ),
    ("launch", "dashboard-9"): _run(Launch, strikes.dashboard_restarts, "SUCCESS", _ONE_JOB),
    ("run", "daemon-9"): _run(Standing, strikes.restarts("daemon"), "STARTED", _STAYS),
    ("run", "code-server-gone"): _run(Standing, strikes.restarts("code server"), "STARTED", _STAYS),
    ("run", "dashboard-9"): _run(Standing, strikes.dashboard_restarts, "STARTED", _STAYS),
    ("run", "run-worker-9"): _run(Resume, strikes.nothing, "SUCCESS", _RESUMED, quick=True),
    ("run", "sigterm"): _run(
        UnderWay,
        strikes.worker(TERM, of_step=False),
        "SUCCESS",
        "The run worker leaves its step running, and the resumed run adopts it.",
    ),
    ("run", "sigint"): _run(
        UnderWay,
        strikes.worker(INT, of_step=False),
        "SUCCESS",
        _BLOCKED,
    ),
    ("run", "timeout"): _run(
        Timeout,
        strikes.nothing,
        "FAILURE|CANCELED",
        "`dagster/max_runtime` ends the run, and its workers end.",
    ),
    ("run", "raylet-9"): _run(
        UnderWay,
        strikes.ray_ends("raylet/raylet"),
        "FAILURE",
        "Ray ends the workers, and the run fails after `unreachable_timeout` at the latest.",
        ends_ray=True,
    ),
    ("run", "head-9"): _run(
        UnderWay,
        strikes.ray_ends(),
        "FAILURE",
        "The run fails after `unreachable_timeout`, and no worker is left.",
        ends_ray=True,
    ),
    ("run", "session"): _run(
        UnderWay,
        strikes.ray_ends(restarts=True),
        "FAILURE|SUCCESS",
        "The run ends, never with two workers at a time.",
        ends_ray=True,
    ),
    ("step-launch", "run-worker-9"): _run(
        StepLaunch,
        strikes.worker_at_request(KILL, after=True),
        "SUCCESS",
        "Killed after the submission: the resumed run adopts the step, which runs once.",
        quick=True,
    ),
    ("step", "run-worker-9"): _run(Resume, strikes.nothing, "SUCCESS", _RESUMED),
    ("step", "step-worker-9"): _run(
        UnderWay,
        strikes.worker(KILL, of_step=True),
        "FAILURE",
        "The step fails with the reason, and so does the run.",
    ),
    ("step", "sigterm"): _run(
        UnderWay,
        strikes.worker(TERM, of_step=True),
        "FAILURE",
        "The step fails with the reason, and so does the run.",
    ),
    ("step", "sigint"): _run(
        UnderWay,
        strikes.worker(INT, of_step=True),
        "SUCCESS",
        _BLOCKED,
    ),
    ("resume", "daemon-9"): _run(
        Resume,
        strikes.at_request("daemon", KILL, after=True),
        "SUCCESS",
        "Killed after the submission: the run has one worker, and succeeds.",
    ),
    ("terminate", "daemon-9"): _run(
        Terminate,
        strikes.at_request("webserver", KILL, after=False),
        "CANCELED",
        "Killed before the request to stop: Dagster's run monitoring marks the run as canceled "
        "after `cancel_timeout_seconds`, and its workers are stopped.",
    ),
    ("terminate", "run-worker-9"): _run(
        Terminate,
        strikes.worker_at_request(KILL, after=False),
        "CANCELED",
        _CANCELED,
    ),
    ("terminate", "step-worker-9"): _run(
        Terminate,
        strikes.worker_at_request(KILL, after=False, of_step=True),
        "CANCELED",
        _CANCELED,
    ),
    ("launch", "sigint"): _run(
        Launch, strikes.at_request("daemon", INT, after=False), "SUCCESS|FAILURE", _ONE_JOB
    ),
    ("step-launch", "sigterm"): _run(
        StepLaunch, strikes.worker_at_request(TERM, after=False), "SUCCESS", _INTERRUPTED
    ),
    ("step-launch", "sigint"): _run(
        StepLaunch, strikes.worker_at_request(INT, after=False), "SUCCESS", _BLOCKED
    ),
    ("step-launch", "dashboard-9"): _run(
        StepLaunch, strikes.dashboard_restarts, "SUCCESS", _ONE_STEP
    ),
    ("resume", "sigterm"): _run(
        Resume, strikes.at_request("daemon", TERM, after=False), "SUCCESS|FAILURE", _ONE_RESUMPTION
    ),
    ("resume", "sigint"): _run(
        Resume, strikes.at_request("daemon", INT, after=False), "SUCCESS|FAILURE", _ONE_RESUMPTION
    ),
    ("resume", "dashboard-9"): _run(Resume, strikes.dashboard_restarts, "SUCCESS", _RESUMED),
    ("terminate", "sigterm"): _run(
        Terminate, strikes.at_request("webserver", TERM, after=False), "CANCELED", _CANCELED
    ),
    ("terminate", "sigint"): _run(
        Terminate, strikes.at_request("webserver", INT, after=False), "CANCELED", _CANCELED
    ),
    ("terminate", "dashboard-9"): _run(
        Terminate, strikes.dashboard_restarts, "CANCELED", _CANCELED
    ),
    ("health", "sigterm"): _run(Standing, strikes.restarts("daemon", TERM), "STARTED", _STAYS),
    ("health", "sigint"): _run(Standing, strikes.restarts("daemon", INT), "STARTED", _STAYS),
    ("pipes-launch", "dashboard-9"): _run(
        ScriptLaunch, strikes.dashboard_restarts, "SUCCESS", _MESSAGES
    ),
    ("pipes-await", "dashboard-9"): _run(Script, strikes.dashboard_restarts, "SUCCESS", _MESSAGES),
    ("health", "token"): _run(Standing, strikes.token_expires, "STARTED", _STAYS),
    ("pipes-follow", "run-worker-9"): _run(
        RunFollows,
        strikes.worker(KILL, of_step=False),
        "SUCCESS ['STOPPED', 'SUCCEEDED']",
        "The run is resumed. Its script is stopped before the step's second script starts.",
    ),
    ("pipes-launch", "run-worker-9"): _run(
        ScriptLaunch,
        strikes.worker_at_request(KILL, after=False),
        "process ended by -9; script none",
        "Killed before the submission: there is no script.",
    ),
    ("pipes-follow", "sigterm"): _run(
        RunFollows,
        strikes.worker(TERM, of_step=False),
        "SUCCESS ['STOPPED', 'SUCCEEDED']",
        "The interrupted worker stops its script. The resumed run starts it again.",
    ),
    ("pipes-follow", "token"): _run(ScriptFollow, strikes.token_expires, "SUCCESS", _MESSAGES),
    ("pipes-terminate", "dashboard-9"): _run(
        ScriptTerminate,
        strikes.dashboard_restarts,
        _STOPPED_ENDS,
        _STOPPED,
    ),
    ("terminate", "raylet-9"): _run(
        Terminate,
        strikes.ray_ends("raylet/raylet"),
        "CANCELED|FAILURE",
        "Ray ends the workers, and the run ends.",
        ends_ray=True,
    ),
}

# A script whose Ray ends. Its process must not wait for ever.
_LOST = "The process ends with an error that says so, and no process of the script is left."
RUNS |= {
    (operation, fault): _run(kind, strike, "process ended by 1", _LOST, ends_ray=True)
    for operation, kind in (("pipes-follow", ScriptFollow), ("pipes-terminate", ScriptTerminate))
    for fault, strike in (
        ("raylet-9", strikes.ray_ends("raylet/raylet")),
        ("session", strikes.ray_ends(restarts=True)),
    )
}
