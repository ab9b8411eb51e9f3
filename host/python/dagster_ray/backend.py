"""The component behind a launcher or an executor, and what it is lent."""

import atexit
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_ray import simulation
from dagster_ray.address import dashboard_url, known_address
from dagster_ray.errors import InvalidConfigError, UnsupportedError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

    from dagster_ray._native import Call, Component, Forward

# Takes a channel (`stdout`, `stderr`) and whole lines of a script's output.
Output = Callable[[str, bytes], None]
# Takes a level (`debug`, `info`, `warning`, `error`) and a line.
Write = Callable[[str, str], None]

_COMPONENTS = Path(__file__).parent / "components"
_LOCAL_PORT = 8265

logger = logging.getLogger("dagster_ray")


@dataclass(frozen=True)
class Connection:
    """What a user wrote on which component to use, and how it reaches Ray."""

    backend: str | None = None
    address: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: Mapping[str, str] = field(default_factory=dict)
    verify: bool | str = True
    backend_config: Mapping[str, Any] = field(default_factory=dict)
    kube_config: str | None = None
    kube_context: str | None = None
    backend_grants: Mapping[str, Any] | None = None
    backend_sha256: str | None = None
    backend_programs: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Connection":
        """Reads it from a flat configuration."""
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
    def narrowing(self) -> "dict[str, str | None]":
        """What the operator allows of the component, as the native module takes it."""
        return narrowing(self.backend_grants, self.backend_sha256)


@dataclass(frozen=True)
class _Target:
    """A component file with its settings and the one authority that they name, if any."""

    wasm: str
    settings: Mapping[str, str]
    url: str | None


class Backend:
    """Calls a component. It may be shared between threads.

    Nothing is resolved or loaded before the first call.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._wasm = named_component(connection.backend) if connection.backend else None
        self._lock = threading.Lock()
        self._target: _Target | None = None
        self._components: dict[frozenset[str], Component] = {}
        # The simulation that those belong to: a module's objects live through many tests.
        self._simulated: str | None = None

    @property
    def url(self) -> str:
        """The URL of Ray's dashboard."""
        url = self._resolve().url
        if url is None:
            raise UnsupportedError(
                f"the backend {self.connection.backend} has no Ray of its own: each run or step "
                "may have another"
            )
        return url

    @property
    def options(self) -> dict[str, Any]:
        """What of `backend_config` belongs to each run or step."""
        if self._redirected() is not None:
            # They are another backend's.
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
        """Calls an export and waits for its answer."""
        component = self._component(directories)
        heard = listener(write, output)
        answer = component.call(export, json.dumps(arguments), heard, timeout)
        return json.loads(answer)

    def start(
        self,
        export: str,
        arguments: Mapping[str, Any],
        write: Write | None = None,
        *,
        directories: Iterable[str] = (),
        timeout: float | None = None,
    ) -> "Pending":
        """Calls an export without waiting for its answer."""
        component = self._component(directories)
        return Pending(component.start(export, json.dumps(arguments), listener(write), timeout))

    def submission_client(self) -> "JobSubmissionClient":
        """Ray's own client for the same Ray."""
        from ray.job_submission import JobSubmissionClient

        return JobSubmissionClient(
            self.url,
            headers=dict(self.connection.headers) or None,
            cookies=dict(self.connection.cookies) or None,
            verify=self.connection.verify,
        )

    def forward(self, namespace: str, service: str, port: int) -> "Forward":
        """Opens a local port that leads to a service of the Kubernetes cluster."""
        return self._component(()).forward(namespace, service, port)

    def _component(self, directories: Iterable[str]) -> "Component":
        target = self._resolve()
        wanted = frozenset(directories)
        with self._lock:
            component = self._components.get(wanted)
            if component is None:
                component = self._components[wanted] = self._load(target, wanted)
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
            lent = simulation.lent(simulated)
            programs, buckets = programs | lent["programs"], lent["buckets"]
            directories.add(simulated)
        return native().Component(
            target.wasm,
            settings=dict(target.settings),
            authorities=[json.dumps(authority)] if target.url else [],
            kubernetes=json.dumps(self._kubernetes()),
            programs=programs,
            directories=sorted(directories),
            buckets=buckets,
            # What is said of another component is not meant for the one that takes its place.
            **(self.connection.narrowing if self._simulated is None else {}),
        )

    def _resolve(self) -> _Target:
        with self._lock:
            simulated = self._redirected()
            if self._target is None or self._simulated != simulated:
                self._components.clear()
                self._simulated = simulated
                self._target = self._find() if simulated is None else _simulated(simulated)
            return self._target

    def _redirected(self) -> str | None:
        """The simulation that this process is in, unless this one was asked for by name."""
        return None if self._wasm == built_in("simulated") else simulation.directory()

    def _programs(self) -> dict[str, list[str]]:
        # Not those on the PATH: they may belong to another environment.
        known = {"python": [sys.executable], "ray": [sys.executable, "-m", "ray.scripts.scripts"]}
        return known | {
            name: _command(name, command)
            for name, command in self.connection.backend_programs.items()
        }

    def _kubernetes(self) -> dict[str, str]:
        file, context = self.connection.kube_config, self.connection.kube_context
        path = Path(file).expanduser() if file else None
        # A launcher's configuration comes along into the pods that it makes. They have no such
        # file, but an account of their own.
        if path is not None and not path.exists() and in_kubernetes():
            return {}
        given = {"kubeconfig": str(path) if path else None, "context": context}
        return {key: value for key, value in given.items() if value is not None}

    def _find(self) -> _Target:
        offered = self.connection.backend_config
        if self.connection.address is None and self._wasm not in (None, *_by_address()):
            declared = _declared_settings(self._wasm, self.connection.narrowing)
            if "address" not in declared:
                return _Target(self._wasm, _texts(offered, declared), None)
        known = known_address(self.connection.address)
        here = self.connection.backend == "local" or known is None or known[0] == "local"
        port = self.connection.backend_config.get("dashboard_port", _LOCAL_PORT)
        if here and not (self.connection.backend == "local" and in_ray_job()):
            wasm = self._wasm or built_in("local")
            settings = {"address": f"http://127.0.0.1:{port}", "dashboard_port": str(port)}
        else:
            # In a Ray job the cluster is there, and it is the job's own.
            chosen = None if self.connection.backend == "local" else self._wasm
            wasm = chosen or built_in("existing")
            settings = {"address": dashboard_url(*(known or (f"http://127.0.0.1:{port}", "")))}
        url = settings["address"]
        if "dashboard_port" in offered:
            settings["dashboard_port"] = str(port)
        if offered.keys() - settings.keys():
            settings |= declared_settings(wasm, offered, self.connection.narrowing)
        return _Target(wasm, settings, url)


def _simulated(directory: str) -> _Target:
    """The backend of a test, whatever the code that is tested configures."""
    settings = {simulation.SETTING: directory}
    return _Target(built_in("simulated"), settings, simulation.URL)


class Pending:
    """An answer that is still to come."""

    def __init__(self, call: "Call") -> None:
        self._call = call

    def done(self) -> bool:
        """Whether it has come."""
        return self._call.done()

    def result(self, timeout: float | None = None) -> Any:
        """The answer, or the call's error."""
        return json.loads(self._call.result(timeout))

    def cancel(self) -> None:
        """Tells the call to stop."""
        self._call.cancel()


def local_directories(*runtime_envs: Any) -> set[str]:
    """What of this machine runtime environments ask to be taken along."""
    found: set[str] = set()
    for runtime_env in runtime_envs:
        if not isinstance(runtime_env, Mapping):
            continue
        modules = runtime_env.get("py_modules")
        entries = [runtime_env.get("working_dir"), *(modules if isinstance(modules, list) else [])]
        found.update(e for e in entries if isinstance(e, str) and e and "://" not in e)
    return found


def listener(write: Write | None = None, output: Output | None = None) -> Callable[..., None]:
    """Takes the reports of a call. Without `write`, log lines go to the logger `dagster_ray`."""

    def receive(text: str, lines: bytes | None = None) -> None:
        if lines is not None:
            # Then the text is the channel.
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
    logger.log(logging.getLevelName(level.upper()), message)


def _command(name: str, command: Any) -> list[str]:
    whole = isinstance(command, Sequence) and all(isinstance(word, str) for word in command)
    if whole and command and not isinstance(command, str):
        return list(command)
    path, hint = f"backend_programs.{name}", "a list such as [/usr/bin/python3]"
    problem = f"{command!r} is no command"
    raise InvalidConfigError(
        f"{path}: {problem}; write its file, and the arguments that go first, as {hint}",
        fields=[{"path": path, "problem": problem, "hint": hint}],
    )


def narrowing(grants: Mapping[str, Any] | None, sha256: str | None) -> dict[str, str | None]:
    """What the operator allows of a component, as the native module takes it."""
    return {"grants": None if grants is None else json.dumps(grants), "sha256": sha256}


def declared_settings(
    wasm: str, offered: Mapping[str, Any], narrowed: Mapping[str, str | None]
) -> dict[str, str]:
    """Only the component knows which keys it reads once, and which with each run and step."""
    return _texts(offered, _declared_settings(wasm, narrowed))


def _declared_settings(wasm: str, narrowed: Mapping[str, str | None]) -> set[str]:
    # Nothing of a file that is not the pinned one is called, not even to ask it.
    probe = native().Component(
        wasm, settings={}, authorities=[], programs={}, directories=[], **narrowed
    )
    return set(json.loads(probe.call("describe.describe", "{}"))["settings"])


def _texts(offered: Mapping[str, Any], declared: Iterable[str]) -> dict[str, str]:
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in offered.items()
        if key in declared
    }


def named_component(name: str) -> str:
    """What a name stands for: the path of a component, or its reference in a registry."""
    return native().named(name, str(_COMPONENTS))


def built_in(name: str) -> str:
    """The file of a component that is built in."""
    return str(_COMPONENTS / f"{name}.wasm")


def in_kubernetes() -> bool:
    """Whether this process runs in a pod."""
    return "KUBERNETES_SERVICE_HOST" in os.environ


def _by_address() -> tuple[str, ...]:
    """The components that are known to need an address, and need not be asked."""
    return built_in("existing"), built_in("local")


def in_ray_job() -> bool:
    """Whether this process, or one above it, is the driver of a Ray job."""
    # Ray sets it for the driver of each submitted job.
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


@cache
def native() -> Any:
    """The native module, which starts nothing before a component is called."""
    from dagster_ray import _native

    # Programs that a component started must not outlive the process that it started them for.
    atexit.register(_native.shutdown)
    return _native
