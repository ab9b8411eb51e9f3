"""Selects and calls the component behind a launcher, executor or Pipes client."""

import atexit
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

from dagster_ray import ray_access, simulation
from dagster_ray.address import dashboard_url, known_address
from dagster_ray.contract import Output, Write
from dagster_ray.errors import InvalidConfigError, UnsupportedError
from dagster_ray.ray_access import ReplacementBackend, in_kubernetes, in_ray_job

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

    from dagster_ray._native import Call, Component, Forward

_COMPONENTS = Path(__file__).parent / "components"
_LOCAL_PORT = 8265
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}

logger = logging.getLogger("dagster_ray")


@dataclass(frozen=True)
class Connection:
    """The configuration of a component and of its connection to Ray."""

    backend: str | None = None
    address: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    cookies: Mapping[str, str] = field(default_factory=dict[str, str])
    verify: bool | str = True
    backend_config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    kube_config: str | None = None
    kube_context: str | None = None
    backend_grants: Mapping[str, Any] | None = None
    backend_sha256: str | None = None
    backend_programs: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Connection":
        """Reads a connection from a flat configuration."""
        verify = config.get("verify")
        if verify is not None and not isinstance(verify, bool | str):
            raise InvalidConfigError(
                f"verify: expected true, false or the path of a CA file, got {verify!r}",
                fields=[{"path": "verify", "problem": f"{verify!r}", "hint": "true, false, path"}],
            )
        return cls(
            backend=config.get("backend"),
            address=config.get("address"),
            headers=config.get("headers") or {},
            cookies=config.get("cookies") or {},
            verify=True if verify is None else verify,
            backend_config=config.get("backend_config") or {},
            kube_config=config.get("kube_config"),
            kube_context=config.get("kube_context"),
            backend_grants=config.get("backend_grants"),
            backend_sha256=config.get("backend_sha256"),
            backend_programs=config.get("backend_programs") or {},
        )

    @property
    def restriction(self) -> "Restriction":
        """The operator's restriction of the component, as arguments of the native module."""
        return restriction_arguments(self.backend_grants, self.backend_sha256)


class Restriction(TypedDict):
    """The operator's restriction of a component, as arguments of the native module."""

    grants: str | None
    sha256: str | None


@dataclass(frozen=True)
class _Target:
    """A component file with its settings and the URL of Ray's dashboard, if it is known."""

    wasm: str
    settings: Mapping[str, str]
    url: str | None


class Backend:
    """Calls a component. Thread-safe; nothing is resolved or loaded before the first call."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._wasm = resolve_component(connection.backend) if connection.backend else None
        self._lock = threading.Lock()
        self._target: _Target | None = None
        self._components: dict[frozenset[str], Component] = {}
        # The replacement that `_target` and `_components` belong to. An object of a module outlives
        # the simulation of a single test.
        self._replacement: ReplacementBackend | None = None

    @property
    def url(self) -> str:
        """The URL of Ray's dashboard."""
        url = self._resolve().url
        if url is None:
            raise UnsupportedError(
                f"backend {self.connection.backend!r}: it has no dashboard URL, because each run "
                "or step may use another Ray cluster"
            )
        return url

    @property
    def options(self) -> dict[str, Any]:
        """The entries of `backend_config` that are passed with each run or step."""
        if self._find_replacement() is not None:
            # They configure the backend that is replaced.
            return {}
        settings = self._resolve().settings
        return {k: v for k, v in self.connection.backend_config.items() if k not in settings}

    def call(
        self,
        export: str,
        arguments: Mapping[str, Any],
        write: Write | None = None,
        *,
        output: Output | None = None,
        directories: Iterable[str] = (),
        timeout: float | None = None,
    ) -> Any:
        """Calls an export and returns its result."""
        component = self._component(directories)
        call = component.start(export, json.dumps(arguments), listener(write, output), timeout)
        return _answer(call)

    def start(
        self,
        export: str,
        arguments: Mapping[str, Any],
        write: Write | None = None,
        *,
        directories: Iterable[str] = (),
        timeout: float | None = None,
    ) -> "Pending":
        """Starts a call of an export, and returns without waiting for its result."""
        component = self._component(directories)
        return Pending(component.start(export, json.dumps(arguments), listener(write), timeout))

    def submission_client(self) -> "JobSubmissionClient":
        """Returns Ray's `JobSubmissionClient` with the address and credentials of this backend."""
        from ray.job_submission import JobSubmissionClient

        return JobSubmissionClient(
            self.url,
            headers=dict(self.connection.headers) or None,
            cookies=dict(self.connection.cookies) or None,
            verify=self.connection.verify,
        )

    def forward(self, namespace: str, service: str, port: int) -> "Forward":
        """Opens a local port that is forwarded to a Kubernetes service."""
        return self._component(()).forward(namespace, service, port)

    def _component(self, directories: Iterable[str]) -> "Component":
        target = self._resolve()
        readable = frozenset(directories)
        with self._lock:
            component = self._components.get(readable)
            if component is None:
                component = self._components[readable] = self._load(target, readable)
            return component

    def _load(self, target: _Target, directories: Iterable[str]) -> "Component":
        authority = {
            "url": target.url,
            "headers": dict(self.connection.headers),
            "cookies": dict(self.connection.cookies),
            "ray_token": True,
            "verify": self.connection.verify,
        }
        programs, directories = self._programs(), set(directories)
        simulated = target.settings.get(simulation.SETTING)
        buckets: dict[str, str] = {}
        if simulated is not None and target.wasm == built_in("simulated"):
            capabilities = simulation.host_capabilities(simulated)
            programs, buckets = programs | capabilities.programs, capabilities.buckets
            directories.add(simulated)
        # The configured restriction and sha256 do not apply to a replacement.
        restriction = (
            self.connection.restriction
            if self._replacement is None
            else restriction_arguments(None, None)
        )
        return native().Component(
            target.wasm,
            settings=dict(target.settings),
            authorities=[json.dumps(authority)] if target.url else [],
            kubernetes=json.dumps(self._kubernetes()),
            programs=programs,
            directories=sorted(directories),
            buckets=buckets,
            **restriction,
        )

    def _resolve(self) -> _Target:
        with self._lock:
            replacement = self._find_replacement()
            if self._target is None or self._replacement != replacement:
                self._components.clear()
                self._replacement = replacement
                self._target = self._find() if replacement is None else _replaced(replacement)
            return self._target

    def _find_replacement(self) -> ReplacementBackend | None:
        """Returns the component that replaces the configured backend.

        A backend that is configured as `simulated` is not replaced.
        """
        if self._wasm == built_in("simulated"):
            return None
        return ray_access.current().replacement_backend()

    def _programs(self) -> dict[str, list[str]]:
        # Programs on the PATH may belong to another environment.
        known = {"python": [sys.executable], "ray": [sys.executable, "-m", "ray.scripts.scripts"]}
        return known | {
            name: _command(name, command)
            for name, command in self.connection.backend_programs.items()
        }

    def _kubernetes(self) -> dict[str, str]:
        file, context = self.connection.kube_config, self.connection.kube_context
        path = Path(file).expanduser() if file else None
        # A run worker in a pod reads the launcher's configuration. It has no such file and uses
        # the pod's service account.
        if path is not None and not path.exists() and in_kubernetes():
            return {}
        given = {"kubeconfig": str(path) if path else None, "context": context}
        return {key: value for key, value in given.items() if value is not None}

    def _find(self) -> _Target:
        offered = self.connection.backend_config
        if self.connection.address is None and self._wasm not in (None, *_by_address()):
            declared = _declared_settings(self._wasm, self.connection.restriction)
            if "address" not in declared:
                return _Target(self._wasm, _texts(offered, declared), None)
        known = known_address(self.connection.address)
        is_local = self.connection.backend == "local" or known is None or known[0] == "local"
        port = self.connection.backend_config.get("dashboard_port", _LOCAL_PORT)
        if is_local and not (self.connection.backend == "local" and in_ray_job()):
            wasm = self._wasm or built_in("local")
            settings = {"address": f"http://127.0.0.1:{port}", "dashboard_port": str(port)}
        else:
            # Inside a Ray job, `local` means the job's own cluster.
            chosen = None if self.connection.backend == "local" else self._wasm
            wasm = chosen or built_in("existing")
            settings = {"address": dashboard_url(*(known or (f"http://127.0.0.1:{port}", "")))}
        url = settings["address"]
        if "dashboard_port" in offered:
            settings["dashboard_port"] = str(port)
        if offered.keys() - settings.keys():
            settings |= declared_settings(wasm, offered, self.connection.restriction)
        return _Target(wasm, settings, url)


def _replaced(replacement: ReplacementBackend) -> _Target:
    return _Target(built_in(replacement.component), replacement.settings, replacement.url)


class Pending:
    """A call in progress."""

    def __init__(self, call: "Call") -> None:
        self._call = call

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._call.done()

    def result(self, timeout: float | None = None) -> Any:
        """Waits at most `timeout` seconds, and returns the call's result or raises its error."""
        return _answer(self._call, timeout)

    def cancel(self) -> None:
        """Cancels the call."""
        self._call.cancel()


def _answer(call: "Call", timeout: float | None = None) -> Any:
    """Returns a call's result, with an exception in place of each element that failed alone."""
    answer = json.loads(call.result(timeout))
    errors = call.errors()
    if not errors:
        return answer
    failed = [isinstance(element, dict) and "error" in element for element in answer]
    return [
        errors[element["error"]["index"]] if has_failed else element
        for element, has_failed in zip(answer, failed, strict=True)
    ]


def local_directories(*runtime_envs: object) -> set[str]:
    """Returns the local paths that `working_dir` and `py_modules` of runtime environments name."""
    found: set[str] = set()
    for runtime_env in runtime_envs:
        if not isinstance(runtime_env, Mapping):
            continue
        fields = cast("Mapping[str, object]", runtime_env)
        modules = fields.get("py_modules")
        entries = [fields.get("working_dir")]
        if isinstance(modules, list):
            entries.extend(cast("list[object]", modules))
        found.update(e for e in entries if isinstance(e, str) and e and "://" not in e)
    return found


def listener(write: Write | None = None, output: Output | None = None) -> Callable[..., None]:
    """Returns a callback for the reports of a call.

    Without `write`, log lines go to the logger `dagster_ray`. Without `output`, output is dropped.
    """

    def receive(text: str, lines: bytes | None = None) -> None:
        if lines is not None:
            # With two arguments, `text` is the channel.
            if output is not None:
                output(text, lines)
            return
        report = json.loads(text)
        if report.get("kind") == "event":
            target("debug", f"{report['event']}: {report['body']}")
        else:
            target(report.get("level", "info"), report["message"])

    target = write or _write_to_logging
    return receive


def _write_to_logging(level: str, message: str) -> None:
    logger.log(_LEVELS.get(level, logging.INFO), message)


def _command(name: str, command: object) -> list[str]:
    if isinstance(command, Sequence) and not isinstance(command, str):
        words = list(cast("Sequence[object]", command))
        texts = [word for word in words if isinstance(word, str)]
        if words and texts == words:
            return texts
    path, hint = f"backend_programs.{name}", "a list such as [/usr/bin/python3]"
    problem = f"{command!r} is not a list of strings"
    raise InvalidConfigError(
        f"{path}: {problem}; write the program's file and its first arguments as {hint}",
        fields=[{"path": path, "problem": problem, "hint": hint}],
    )


def restriction_arguments(grants: Mapping[str, Any] | None, sha256: str | None) -> Restriction:
    """Returns the operator's restriction of a component, as arguments of the native module."""
    return {"grants": None if grants is None else json.dumps(grants), "sha256": sha256}


def declared_settings(
    wasm: str, offered: Mapping[str, Any], restriction: Restriction
) -> dict[str, str]:
    """Returns the offered keys that the component declares as settings, with values as text.

    A component reads settings once. The other keys are options, passed with each run and step.
    """
    return _texts(offered, _declared_settings(wasm, restriction))


def _declared_settings(wasm: str, restriction: Restriction) -> set[str]:
    # The restriction includes the pinned sha256, so that no other file is called.
    probe = native().Component(
        wasm, settings={}, authorities=[], programs={}, directories=[], **restriction
    )
    return set(json.loads(probe.call("describe.describe", "{}"))["settings"])


def _texts(offered: Mapping[str, Any], declared: Iterable[str]) -> dict[str, str]:
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in offered.items()
        if key in declared
    }


def resolve_component(name: str) -> str:
    """Resolves a backend's name to the path of a component or its reference in a registry."""
    return native().named(name, str(_COMPONENTS))


def built_in(name: str) -> str:
    """Returns the path of a built-in component."""
    return str(_COMPONENTS / f"{name}.wasm")


def _by_address() -> tuple[str, ...]:
    """The built-in components that need an address. Their settings need not be queried."""
    return built_in("existing"), built_in("local")


@cache
def native():
    """Imports the native module. It starts no thread before a component is called."""
    # Only without a return type do type checkers know the members of the module.
    from dagster_ray import _native

    # Programs that a component started must not outlive this process.
    atexit.register(_native.shutdown)
    return _native
