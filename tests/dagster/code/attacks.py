"""Runs attacks in a separate process, and writes their outcomes as one line of JSON."""

import contextlib
import http.server
import json
import logging
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from dagster_ray._native import Component
from dagster_ray.errors import DagsterRayError, ForkedProcessError, PermissionDeniedError

ROOT = Path(__file__).parents[3]
SANDBOX = ROOT / "tests" / "sandbox"
WASM = ROOT / "target/wasm32-wasip2/component/fixture_hostile.wasm"

# `io.save` is left out: it takes a value in addition to its argument.
EXPORTS: dict[str, dict[str, Any]] = json.loads((SANDBOX / "exports.json").read_text())
del EXPORTS["io.save"]
# Seconds. A short deadline for attacks that only the deadline ends.
SOON = 0.5


class _Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        # Read the body first: a response before its end would make the outcome depend on timing.
        if "chunked" in self.headers.get("transfer-encoding", ""):
            while self.rfile.readline() not in (b"0\r\n", b""):
                pass
        self._answer()

    def _answer(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        # When the host aborts a request, the connection is closed before the response.
        with contextlib.suppress(ConnectionError):
            self.wfile.write(b"{}")

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _serve() -> int:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


class Attacker:
    """The hostile component, with a manifest that has a small grant of each capability."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.wasm = folder / "hostile.wasm"
        self.wasm.write_bytes(WASM.read_bytes())
        manifest = (SANDBOX / "hostile.toml").read_text().replace("{port}", str(port))
        self.wasm.with_suffix(".toml").write_text(manifest)
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(
            "apiVersion: v1\nkind: Config\ncurrent-context: dev\n"
            "contexts: [{name: dev, context: {cluster: c, user: u}}]\n"
            f"clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]\n"
            "users: [{name: u, user: {token: planted-kubeconfig-token}}]\n"
        )

    def component(self, **settings: str) -> Component:
        authority = {
            "url": f"http://127.0.0.1:{self.port}",
            "headers": {"authorization": "Bearer planted-dashboard-header"},
        }
        return Component(
            str(self.wasm),
            settings=settings,
            authorities=[json.dumps(authority)],
            kubernetes=json.dumps({"kubeconfig": str(self.kubeconfig)}),
            programs={"echo": ["/bin/echo"]},
            directories=[],
        )

    def attempt(self, attack: str, export: str, timeout: float | None) -> dict[str, str]:
        """Runs one attack, and returns its outcome in the terms of `attacks.json`."""
        attack = attack.replace("{authority}", f"127.0.0.1:{self.port}")
        attack = attack.replace("{port}", str(self.port)).replace("{long}", "x" * (100 << 10))
        component = self.component(**{"attack": attack, "attack-in": export})
        reports: list[bytes] = []

        def listener(report: str, output: bytes | None = None) -> None:
            reports.append(_content(report) if output is None else output)

        try:
            answer = component.call(export, json.dumps(EXPORTS[export]), listener, timeout)
            raised, outcome = "-", f"answers {answer}"
        except DagsterRayError as error:
            raised, outcome = type(error).__name__, str(error)
        return {
            "raises": raised,
            "outcome": self._steady(outcome, export) + _reported(reports),
            "next": _next(component, export),
        }

    def _steady(self, outcome: str, export: str) -> str:
        """Removes from a text what differs from run to run, as `sandbox_tests::suite` does."""
        outcome = outcome.replace(f"hostile: {export}: ", "").replace(f":{self.port}", ":PORT")
        outcome = outcome.replace(str(self.wasm.with_suffix("")), "hostile")
        outcome = outcome.split("\nThe component wrote:")[0].split(" (in ")[0]
        line = " ".join(outcome.split("\n"))
        return line if len(line) <= 300 else line[:300] + "…"


def _content(report: str) -> bytes:
    notice = json.loads(report)
    parts = [notice[key] for key in ("message", "event", "body") if key in notice]
    return "".join(parts).encode()


def _reported(reports: list[bytes]) -> str:
    if not reports:
        return ""
    *others, last = reports
    size = sum(map(len, others))
    counted = f"reports that reach the caller: {len(others)}, with {size} bytes"
    return f"; {counted}; then: {last.decode()}"


def _next(component: Component, attacked: str) -> str:
    """Returns the outcome of the call after an attack."""
    export = "executor.plan" if attacked == "executor.finish" else "executor.finish"
    try:
        return f"{export} answers {component.call(export, json.dumps(EXPORTS[export]))}"
    except DagsterRayError as error:
        return f"{export} raises {type(error).__name__}: {error}"


def _attacks(attacker: Attacker) -> list[dict[str, str]]:
    results = []
    for listed in json.loads((SANDBOX / "attacks.json").read_text()):
        every = listed["export"] == "every"
        exports = list(EXPORTS) if every else [listed["export"]]
        timeout = SOON if listed["raises"] == "CallTimeoutError" else None
        for export in exports:
            found = attacker.attempt(listed["attack"], export, timeout)
            results.append({"what": listed["what"], "export": export, **found})
    return results


def _inverted(text: str) -> str:
    return bytes(255 - byte for byte in text.encode()).hex()


def _canaries(attacker: Attacker) -> dict[str, Any]:
    searched = [
        "planted-dashboard-header",
        "planted-kubeconfig-token",
        os.environ["PLANTED_IN_THE_ENVIRONMENT"],
        "given-as-a-setting",
    ]
    here = f"http://127.0.0.1:{attacker.port}"
    cluster = "http://kubernetes.internal/apis/ray.io/v1/namespaces/ray/rayclusters"
    attack = f"search {here}/,{cluster} {' '.join(map(_inverted, searched))}"
    component = attacker.component(attack=attack, known="given-as-a-setting")
    lines: list[str] = []
    try:
        component.call(
            "launcher.plan",
            json.dumps(EXPORTS["launcher.plan"]),
            lambda text, *_: lines.append(text),
        )
        error = "no answer"
    except DagsterRayError as raised:
        error = str(raised)
    counts = [int(count) for count in error.rpartition("found ")[2].split()]
    found = dict(zip(searched, counts, strict=True))
    return {"counts": found, "lines": "\n".join(lines), "error": error}


def _fork(attacker: Attacker) -> dict[str, Any]:
    component = attacker.component()
    component.call("executor.finish", json.dumps(EXPORTS["executor.finish"]))
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def in_the_child() -> None:
        try:
            component.call("executor.finish", json.dumps(EXPORTS["executor.finish"]))
            sender.send(("nothing", False))
        except ForkedProcessError as error:
            sender.send((type(error).__name__, "spawn" in str(error)))

    child = context.Process(target=in_the_child)
    child.start()
    assert receiver.poll(30), "the child hangs"
    name, names_spawn = receiver.recv()
    child.join(30)
    component.call("executor.finish", json.dumps(EXPORTS["executor.finish"]))
    return {"child": name, "names_spawn": names_spawn, "parent": "served"}


def _forward(attacker: Attacker) -> dict[str, Any]:
    component = attacker.component()
    found = {}
    for namespace, port in (("kube-system", 8265), ("ray", 10250)):
        try:
            component.forward(namespace, "head", port)
            error = {"raises": "-"}
        except PermissionDeniedError as raised:
            error = {"raises": type(raised).__name__, "grant": raised.grant}
        found[f"{namespace}:{port}"] = error
    return found


def _audit(attacker: Attacker) -> dict[str, Any]:
    """Makes a denied request and one with a credential, with and without the audit log."""
    logger = logging.getLogger("dagster_ray.audit")
    handler = _Lines()
    logger.addHandler(handler)

    def attack() -> list[str]:
        handler.lines.clear()
        for url in ("http://metadata.internal:80/latest", f"http://127.0.0.1:{attacker.port}/"):
            attacker.attempt(f"get {url}", "launcher.plan", None)
        return list(handler.lines)

    disabled = attack()
    logger.setLevel(logging.INFO)
    # The host reads the levels of child loggers once a second.
    time.sleep(1.1)
    return {"disabled": disabled, "lines": attack()}


class _Lines(logging.Handler):
    """Keeps the messages of a logger."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        attacker = Attacker(Path(folder), _serve())
        alone = {"fork": _fork, "forward": _forward, "audit": _audit}
        if sys.argv[1] in alone:
            sys.stdout.write(json.dumps(alone[sys.argv[1]](attacker)))
            return
        act = {"attacks": _attacks, "canaries": _canaries}[sys.argv[1]]
        before = act(attacker)
        import ray

        ray.init(sys.argv[2], log_to_driver=False)
        after = act(attacker)
        ray.shutdown()
        sys.stdout.write(json.dumps({"before": before, "after": after}))


if __name__ == "__main__":
    main()
