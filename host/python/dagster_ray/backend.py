"""Calls the component behind a launcher, executor or Pipes client."""

import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import Unpack

from dagster_ray import programs, ray_access, simulation
from dagster_ray.backend_choice import Choice, choose, configured_component, replacement
from dagster_ray.component_files import Restriction, built_in, native, restriction_arguments
from dagster_ray.configs import BackendConfig
from dagster_ray.contract import CallOptions, ListenerOptions, Output, Write
from dagster_ray.errors import DagsterRayError, UnsupportedError
from dagster_ray.given_up import GivenUpJobs
from dagster_ray.instance_policy import check_code
from dagster_ray.ray_access import ReplacementBackend, ServiceRoute, in_kubernetes
from dagster_ray.ray_variables import job_headers
from dagster_ray.tasks import Tasks
from dagster_ray.telemetry import CallObservation, observe

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

    from dagster_ray._native import Call, Component, Forward

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}

# Stands for every granted Service of the Kubernetes cluster (`host/policy/src/authority.rs`).
_SERVICES = "http://svc"

logger = logging.getLogger("dagster_ray")


class Backend:
    """Calls a component. Thread-safe; nothing is resolved or loaded before the first call.

    Unless the owner has checked the configuration (`is_checked`), it counts as chosen by code. The
    instance's policy is in `policy_root`, by default in DAGSTER_HOME. A script may be pending for
    `start_timeout` seconds.
    """

    def __init__(
        self,
        config: BackendConfig,
        *,
        policy_root: str | None = None,
        is_checked: bool = False,
        start_timeout: float | None = None,
    ) -> None:
        self.config = config
        self.start_timeout = start_timeout
        self.policy_root = policy_root
        self._is_checked = is_checked
        self._named = configured_component(config)
        self._lock = threading.Lock()
        self._choice: Choice | None = None
        self.given_up = GivenUpJobs()
        # The executor attaches what submits the tasks.
        self.tasks = Tasks()
        self._components: dict[frozenset[str], Component] = {}
        # The replacement that `_choice` and `_components` belong to. An object of a module outlives
        # the simulation of a single test.
        self._replacement: ReplacementBackend | None = None

    @property
    def url(self) -> str:
        """The URL of Ray's dashboard."""
        url = self._resolve().url
        if url is None:
            raise UnsupportedError(
                f"backend {self.config.backend!r}: it has no dashboard URL, because each run "
                "or step may use another Ray cluster"
            )
        return url

    @property
    def address(self) -> str | None:
        """The address of Ray as it was written, or `None` if Ray has none, as with `local`."""
        return self._resolve().address

    @property
    def is_local(self) -> bool:
        """Whether the component starts Ray on this machine."""
        return self._resolve().wasm == built_in("local")

    @property
    def options(self) -> dict[str, Any]:
        """The entries of `backend_config` that are passed with each run or step."""
        if self._find_replacement() is not None:
            # They configure the backend that is replaced.
            return {}
        settings = self._resolve().settings
        offered = self.config.backend_config or {}
        return {key: value for key, value in offered.items() if key not in settings}

    def call(
        self, export: str, arguments: Mapping[str, object], **options: Unpack[ListenerOptions]
    ) -> Any:
        """Calls an export and returns its result."""
        component = self._component(options.get("directories", ()))
        report = listener(options.get("write"), options.get("output"))
        timeout = options.get("timeout")
        observation = observe(component, export, arguments)
        call = component.start(export, json.dumps(arguments), report, timeout, here=True)
        return Pending(call, observation).result()

    def start(
        self, export: str, arguments: Mapping[str, object], **options: Unpack[CallOptions]
    ) -> "Pending":
        """Starts a call of an export, and returns without waiting for its result."""
        component = self._component(options.get("directories", ()))
        report = listener(options.get("write"))
        timeout = options.get("timeout")
        observation = observe(component, export, arguments)
        return Pending(component.start(export, json.dumps(arguments), report, timeout), observation)

    def submission_client(self) -> "JobSubmissionClient":
        """Returns Ray's `JobSubmissionClient` with the address and credentials of this backend."""
        from ray.job_submission import JobSubmissionClient

        return JobSubmissionClient(
            self.url,
            headers=job_headers(self.config.headers) or None,
            cookies=self.config.cookies or None,
            verify=self._verify,
        )

    def service_route(self) -> ServiceRoute:
        """Returns how this process reaches a service of the backend's Kubernetes cluster."""
        return ray_access.current().service_route(self._component(()).is_inside_cluster)

    def forward(self, namespace: str, service: str, port: int) -> "Forward":
        """Opens a local port that is forwarded to a Kubernetes service."""
        return self._component(()).forward(namespace, service, port)

    def ray_token(self, namespace: str, service: str, port: int) -> str | None:
        """Returns the token of the RayCluster behind a service, or `None` if it needs none."""
        return self._component(()).ray_token(namespace, service, port)

    def identity(self) -> tuple[str, str, list[str]]:
        """Loads the component, and returns its name, its sha256 and its exports."""
        component = self._component(())
        return component.name, component.digest, component.exports

    def review(self, namespace: str, *, tokens: bool = False) -> str:
        """Returns what the Kubernetes account may do, and what the component needs, as JSON.

        It is null for a component without the grant `kubernetes`.
        """
        return self._component(()).review(namespace, tokens=tokens)

    def certificates(self) -> str:
        """Returns the certificates of the authorities with TLS, as JSON."""
        return self._component(()).certificates()

    @property
    def _verify(self) -> bool | str:
        return True if self.config.verify is None else self.config.verify

    def _component(self, directories: Iterable[str]) -> "Component":
        choice = self._resolve()
        readable = frozenset(directories)
        with self._lock:
            component = self._components.get(readable)
            if component is None:
                component = self._components[readable] = self._load(choice, readable)
            return component

    def _load(self, choice: Choice, directories: Iterable[str]) -> "Component":
        commands = programs.known() | (self.config.backend_programs or {})
        directories = set(directories)
        simulated = choice.settings.get(simulation.SETTING)
        buckets: dict[str, str] = {}
        if simulated is not None and choice.wasm == built_in("simulated"):
            capabilities = simulation.host_capabilities(simulated)
            commands, buckets = commands | capabilities.programs, capabilities.buckets
            directories.add(simulated)
        return native().Component(
            choice.wasm,
            settings=dict(choice.settings),
            authorities=[json.dumps(one) for one in self._authorities(choice)],
            kubernetes=json.dumps(self._kubernetes()),
            programs=commands,
            directories=sorted(directories),
            tasks=self.tasks,
            buckets=buckets,
            **self._restriction(),
        )

    def _authorities(self, choice: Choice) -> list[dict[str, object]]:
        """Returns the authorities that the configuration names, with their credentials."""
        headers, cookies = job_headers(self.config.headers), self.config.cookies or {}
        authority = {"headers": headers, "cookies": cookies, "verify": self._verify}
        if choice.url is not None:
            return [{"url": choice.url, "ray_token": True, **authority}]
        if (self.config.headers or cookies) and choice.wasm == built_in("kuberay"):
            # A third-party component could send them to a Service of its own.
            return [{"url": _SERVICES, **authority}]
        return []

    def _restriction(self) -> Restriction:
        if self._replacement is not None:
            # The configured restriction and sha256 do not apply to a replacement.
            return restriction_arguments(None, None, self.policy_root)
        config = self.config
        return restriction_arguments(config.backend_grants, config.backend_sha256, self.policy_root)

    def _resolve(self) -> Choice:
        with self._lock:
            found = self._find_replacement()
            if found is None and not self._is_checked:
                check_code(self.policy_root, self.config.model_dump())
                self._is_checked = True
            if self._choice is None or self._replacement != found:
                self._components.clear()
                self._replacement = found
                self._choice = (
                    choose(self.config, self._named, self.policy_root, self.start_timeout)
                    if found is None
                    else replacement(found)
                )
            return self._choice

    def _find_replacement(self) -> ReplacementBackend | None:
        """Returns the component that replaces the configured backend.

        A backend that is configured as `simulated` is not replaced.
        """
        if self._named == built_in("simulated"):
            return None
        return ray_access.current().replacement_backend()

    def _kubernetes(self) -> dict[str, str]:
        file, context = self.config.kube_config, self.config.kube_context
        path = Path(file).expanduser() if file else None
        # A run worker in a pod reads the launcher's configuration. It has no such file and uses
        # the pod's service account.
        if path is not None and not path.exists() and in_kubernetes():
            return {}
        given = {"kubeconfig": str(path) if path else None, "context": context}
        return {key: value for key, value in given.items() if value is not None}


class Pending:
    """A call in progress."""

    def __init__(self, call: "Call", observation: CallObservation | None = None) -> None:
        self._call = call
        # Until the call's end is known.
        self._observation = observation

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._call.done()

    def result(self, timeout: float | None = None) -> Any:
        """Waits at most `timeout` seconds, and returns the call's result or raises its error."""
        try:
            answer = _answer(self._call, timeout)
        except BaseException as error:
            # The component's own timeout ends the call.
            if isinstance(error, DagsterRayError) or not isinstance(error, TimeoutError):
                self._observe_end(error)
            raise
        self._observe_end(None)
        return answer

    def cancel(self) -> None:
        """Cancels the call."""
        self._call.cancel()

    def _observe_end(self, error: BaseException | None) -> None:
        observation, self._observation = self._observation, None
        if observation is not None:
            observation.end(self._call, error)


def _answer(call: "Call", timeout: float | None = None) -> Any:
    """Returns a call's result, with an exception in place of each element that failed."""
    answer = json.loads(call.result(timeout))
    errors = call.errors()
    if not errors:
        return answer
    failed = [isinstance(element, dict) and "error" in element for element in answer]
    return [
        errors[element["error"]["index"]] if has_failed else element
        for element, has_failed in zip(answer, failed, strict=True)
    ]


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

    target = write or write_to_logging
    return receive


def write_to_logging(level: str, message: str) -> None:
    """Writes a log line of a component to the logger `dagster_ray`."""
    logger.log(_LEVELS.get(level, logging.INFO), message)


__all__ = ["Backend", "Pending", "listener", "write_to_logging"]
