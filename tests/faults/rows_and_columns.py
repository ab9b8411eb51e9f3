"""The rows (operations) and the columns (faults) of the matrix, and the parts that both share."""

from dataclasses import dataclass

# What an operation involves and what a fault strikes, with the words for the page.
PARTS = {
    "daemon": "the daemon",
    "code server": "the code server",
    "run worker": "a run worker",
    "step worker": "a step worker",
    "ray": "the processes of Ray",
    "dashboard": "Ray's dashboard",
    "kubernetes": "Kubernetes",
    "http": "HTTP",
    "tls": "TLS",
    "token": "a token",
    "clock": "a clock",
    "disk": "a disk",
    "signal": "a process of Dagster that gets signals",
    "component": "a call of a component",
    "deployment": "an object that another deployment could own",
    "local": "the start of a local Ray",
}


@dataclass(frozen=True)
class Operation:
    title: str
    involves: frozenset[str]


@dataclass(frozen=True)
class Fault:
    title: str
    # The fault can disturb an operation that involves one of these.
    strikes: frozenset[str]


def _operation(title: str, *parts: str) -> Operation:
    return Operation(title, frozenset(parts))


def _fault(title: str, *parts: str) -> Fault:
    return Fault(title, frozenset(parts))


_CALL = ("http", "tls", "token", "component", "signal", "clock")
_RAY = ("ray", "dashboard", "kubernetes", "deployment")

OPERATIONS = {
    "launch": _operation("launch of a run", "daemon", "disk", "local", *_CALL, *_RAY),
    "run": _operation("run under way", "daemon", "code server", "run worker", *_CALL, *_RAY),
    "step-launch": _operation("launch of a step", "run worker", "disk", *_CALL, *_RAY),
    "step": _operation("step under way", "run worker", "step worker", *_CALL, *_RAY),
    "resume": _operation("resume of a run", "daemon", "run worker", *_CALL, *_RAY),
    "terminate": _operation("terminate", "daemon", "run worker", "step worker", *_CALL, *_RAY),
    "health": _operation("health check", "daemon", "run worker", *_CALL, *_RAY),
    "cluster-create": _operation(
        "create a cluster", "run worker", "step worker", "kubernetes", "deployment", *_CALL
    ),
    "cluster-wait": _operation(
        "wait for a cluster", "run worker", "step worker", "kubernetes", *_CALL
    ),
    "cluster-use": _operation(
        "use a cluster", "run worker", "step worker", "kubernetes", "ray", *_CALL
    ),
    "cluster-share": _operation(
        "share a cluster", "run worker", "step worker", "kubernetes", "deployment", *_CALL
    ),
    "cluster-delete": _operation(
        "delete a cluster",
        "daemon",
        "run worker",
        "step worker",
        "kubernetes",
        "deployment",
        *_CALL,
    ),
    "pipes-launch": _operation("Pipes: launch", "run worker", "step worker", "disk", *_CALL, *_RAY),
    "pipes-follow": _operation("Pipes: follow", "run worker", "step worker", *_CALL, *_RAY),
    "pipes-await": _operation("Pipes: await", "run worker", "step worker", *_CALL, *_RAY),
    "pipes-terminate": _operation("Pipes: terminate", "run worker", "step worker", *_CALL, *_RAY),
    "value-save": _operation(
        "save a value", "step worker", "ray", "disk", "component", "signal", "deployment", "clock"
    ),
    "value-load": _operation("load a value", "step worker", "ray", "disk", "component", "signal"),
    "value-cleanup": _operation(
        "clean up values", "daemon", "run worker", "ray", "disk", "component", "deployment", "clock"
    ),
    "swap": _operation("swap of a component", "daemon", "run worker", "disk", "component"),
}

FAULTS = {
    "daemon-9": _fault(
        "the daemon, or the process that launches or terminates, gets SIGKILL", "daemon"
    ),
    "run-worker-9": _fault("the run worker gets SIGKILL", "run worker"),
    "code-server-gone": _fault("the code server gets SIGKILL and comes back", "code server"),
    "step-worker-9": _fault("the step worker gets SIGKILL", "step worker"),
    "raylet-9": _fault("the raylet gets SIGKILL", "ray"),
    "head-9": _fault("all of Ray's head gets SIGKILL", "ray"),
    "dashboard-9": _fault("the dashboard gets SIGKILL and comes back", "dashboard"),
    "gcs-restart": _fault("the GCS gets SIGKILL and starts again", "ray"),
    "session": _fault("another Ray session at the same address", "ray"),
    "api-server": _fault("the Kubernetes API server restarts", "kubernetes"),
    "etcd-slow": _fault("etcd is slow", "kubernetes"),
    "operator-down": _fault("the KubeRay operator is down", "kubernetes"),
    "pod-evicted": _fault("a pod is evicted or killed", "kubernetes"),
    "node-gone": _fault("a node is gone", "kubernetes"),
    "partition": _fault("10 s without network to the API", "http"),
    "loss": _fault("10 s of delay and lost connections", "http"),
    "reset": _fault("a connection reset", "http"),
    "half": _fault("half a response", "http"),
    "lost": _fault("a lost response", "http"),
    "429": _fault("429 with Retry-After", "http"),
    "5xx": _fault("500 or 503 for some seconds", "http"),
    "tls": _fault("the TLS certificate is rotated", "tls"),
    "token": _fault("the token expires and is renewed", "token"),
    "clock": _fault("the clock steps", "clock"),
    "disk-full": _fault("the disk is full", "disk"),
    "sigterm": _fault("SIGTERM", "signal"),
    "sigint": _fault("SIGINT", "signal"),
    "trap": _fault("the component traps", "component"),
    "timeout": _fault("a time limit ends it", "component", "signal"),
    "second": _fault("a second deployment shares Ray, namespace or store", "deployment"),
    "local": _fault("two processes start a local Ray at once", "local"),
}


def why_not(operation: str, fault: str) -> str | None:
    """Returns why a fault cannot disturb an operation, or None if it can."""
    strikes = FAULTS[fault].strikes
    if strikes & OPERATIONS[operation].involves:
        return None
    return f"It does not involve {' or '.join(PARTS[part] for part in sorted(strikes))}."
