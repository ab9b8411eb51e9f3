"""Launches, follows and terminates a script that reports through Dagster Pipes."""

import json
import logging
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from dagster import (
    PipesContextInjector,
    PipesMessageReader,
    PipesSession,
    open_pipes_session,
)

from dagster_ray.backend import Backend
from dagster_ray.configs import image
from dagster_ray.contract import JobRef, JobStatus, Output, PendingCall, PipesClient, ScriptSpec
from dagster_ray.dagster_internals import PipesClientCompletedInvocation
from dagster_ray.dashboard import dashboard_link
from dagster_ray.deployment import deployment_id
from dagster_ray.errors import (
    CallTimeoutError,
    DagsterRayError,
    ScriptFailedError,
    UnavailableError,
)
from dagster_ray.instance_policy import check_code
from dagster_ray.pipes.completed import CompletedScript
from dagster_ray.pipes.timeline import Timeline
from dagster_ray.specs import attributes, resolved
from dagster_ray.telemetry import worker_trace
from dagster_ray.types import OpOrAssetExecutionContext as Context

logger = logging.getLogger("dagster_ray")

# How long termination waits for a launch that has not returned yet.
_LAUNCH_SECONDS = 15.0
_DEFAULT_STREAMS = {"stdout", "stderr"}


@dataclass(frozen=True)
class Package:
    """A directory with a Python package of `dagster_ray` that is uploaded with a script."""

    path: str
    # The directory that the component may read. It is the same for all packages of a process, which
    # loads a component for each set of directories.
    root: str


class Script:
    """One script that a backend runs for a step."""

    job: JobRef
    """The script's Ray job, once `run` has planned it."""

    def __init__(
        self,
        backend: Backend,
        context: Context,
        session: PipesSession,
        *,
        labels: Mapping[str, str],
        options: Mapping[str, object],
        directories: Iterable[str],
    ) -> None:
        self._component = PipesClient(backend)
        self._given_up = backend.given_up
        self._start_timeout = backend.start_timeout
        self._link = backend.config.dashboard_link
        self._context = context
        self._directories = list(directories)
        self._timeline = Timeline()
        # The last line that the component reported.
        self._reported = ""
        self._spec: ScriptSpec = {
            "deployment": deployment_id(context.instance),
            "run_id": context.run_id,
            "step_key": context.get_step_execution_context().step.key,
            "attempt": context.retry_number,
            "nonce": uuid.uuid4().hex[:12],
            "bootstrap": attributes({**worker_trace(), **session.get_bootstrap_env_vars()}),
            "labels": attributes(labels),
            "image": image(context.run),
            "options": json.dumps({**options, **backend.options}),
        }

    def run(
        self,
        output: Output,
        *,
        forward_termination: bool,
        launched: Callable[["Script"], None],
    ) -> JobStatus:
        """Launches the script, forwards its output to ``output``, and returns its final status.

        Any exception, including an interrupt, terminates the script first, unless
        ``forward_termination`` is false. ``launched`` is called once the job is submitted.
        """
        self.job = self._component.plan(self._spec, write=self._write)
        pending = self._component.start_launch(
            self._spec, write=self._write, directories=self._directories
        )
        try:
            self.job = pending.result()
            self._given_up.contact()
            launched(self)
            self._follow(self._timeline.watched(output))
            status = self._component.wait(self.job, write=self._write)
            self._timeline.end()
            return status
        except BaseException:
            if forward_termination:
                self._terminate(pending)
            raise

    def metadata(self) -> dict[str, Any]:
        """Returns the metadata of the job that Dagster displays."""
        shown: dict[str, Any] = {"Ray Job ID": self.job["submission_id"]}
        details = json.loads(self.job["details"] or "{}")
        if "name" in details:
            shown["RayJob"] = f"{details['namespace']}/{details['name']}"
        return {**shown, **dashboard_link(self.job, self._link), **self._timeline.metadata()}

    def _follow(self, output: Output) -> None:
        position = None
        while True:
            try:
                answer = self._component.follow(
                    self.job, position, write=self._write, output=output
                )
            except CallTimeoutError as error:
                if error.seconds != self._start_timeout:
                    raise
                raise self._late(error.seconds) from error
            if answer["complete"]:
                return
            if answer["position"] == position:
                # The component decides how often it reconnects. It has given up.
                raise UnavailableError(
                    f"Ray job {self.job['submission_id']}: its output could not be read further, "
                    "and pipes.follow returned neither new output nor the job's end"
                )
            position = answer["position"]

    def _late(self, seconds: float | None) -> CallTimeoutError:
        """Returns the error for a script that has not started in time, with the last report."""
        job = self.job["submission_id"]
        reason = f": {self._reported}" if self._reported else ""
        return CallTimeoutError(
            f"[pipes] the script {job} has not started within {seconds:g} s{reason}. To wait "
            "longer, pass another `timeout` to the Pipes client",
            seconds=seconds,
        )

    def _terminate(self, pending: PendingCall[JobRef]) -> None:
        job = self.job["submission_id"]
        # Wait for the submission: a job that is submitted after the stop request would still start.
        try:
            self.job = pending.result(_LAUNCH_SECONDS)
        except (DagsterRayError, TimeoutError):
            pending.cancel()
        self._context.log.info(f"[pipes] stopping the Ray job {job}")
        try:
            status = self._component.terminate(self.job, write=self._write)
        except DagsterRayError as error:
            self._context.log.error(
                f"[pipes] could not stop the Ray job {job}, which may still run: {error}"
            )
            self._give_up()
        else:
            self._context.log.info(f"[pipes] the Ray job {job}: {status['state']}")

    def _give_up(self) -> None:
        """Remembers the job, which is stopped at the next contact with Ray."""
        ref = self.job
        self._given_up.add(
            ref["submission_id"],
            lambda: self._component.start_terminate(ref),
            is_missing=lambda status: status["state"] == "missing",
            report=logger.info,
            may_arrive=True,
        )

    def _write(self, level: str, message: str) -> None:
        self._reported = message
        if level != "debug":
            self._timeline.add(message)
        getattr(self._context.log, level)(message)


def run_session(
    backend: Backend,
    context: Context,
    *,
    context_injector: PipesContextInjector,
    message_reader: PipesMessageReader,
    extras: dict[str, Any],
    labels: Mapping[str, str],
    options: Mapping[str, object],
    directories: Iterable[str],
    forward_termination: bool,
    launched: Callable[[Script], dict[str, Any]],
    what: str,
    parameters: str | None = None,
    package: Package | None = None,
) -> PipesClientCompletedInvocation:
    """Runs a script in its own Pipes session, and raises `ScriptFailedError` unless it succeeds.

    `parameters` is the option with the parameters of Ray's `submit_job`. By default, the options
    are these parameters. Files that a manifest names are those of the submitter's container.
    `package` is uploaded beside the `py_modules`.
    """
    root = context.instance.root_directory
    if backend.policy_root is None:
        backend.policy_root = root
    check_code(root, options)
    if parameters is None:
        options = resolved(options)
    else:
        given = cast("Mapping[str, object]", options.get(parameters) or {})
        check_code(root, given)
        options = {**options, parameters: resolved(given)} if given else options
    if package is not None:
        # After the check: the policy is about the directories that code names.
        options = _with_package(options, package.path)
        directories = [*directories, package.root]
    with open_pipes_session(
        context=context,
        context_injector=context_injector,
        message_reader=message_reader,
        extras=extras or None,
    ) as session:
        script = Script(
            backend, context, session, labels=labels, options=options, directories=directories
        )
        # Other message readers do not read messages from the output.
        output_callback = getattr(message_reader, "output_callback", None)
        output = forward if output_callback is None else output_callback(session.message_handler)
        status = script.run(
            output,
            forward_termination=forward_termination,
            launched=lambda script: session.report_launched({"extras": launched(script)}),
        )
    _check(status, f"{what} {script.job['submission_id']}")
    completed = CompletedScript(session, metadata=script.metadata())
    completed.keep_results()
    return completed


def _with_package(options: Mapping[str, object], package: str) -> dict[str, object]:
    runtime_env = cast("Mapping[str, object]", options.get("runtime_env") or {})
    modules = cast("list[object]", runtime_env.get("py_modules") or [])
    return {**options, "runtime_env": {**runtime_env, "py_modules": [*modules, package]}}


def _check(status: JobStatus, what: str) -> None:
    """Raises `ScriptFailedError` unless the script succeeded."""
    state = status["state"]
    if state == "succeeded":
        return
    reason = status["message"] or "Ray reported no message"
    raise ScriptFailedError(
        f"[pipes] {what} {state}: {reason}",
        state=state,
        error_type=status["error_type"],
        exit_code=status["exit_code"],
    )


def forward(channel: str, text: bytes) -> None:
    """Writes a script's output to the stdout or stderr of this process, which Dagster captures."""
    stream = getattr(sys, channel if channel in _DEFAULT_STREAMS else "stdout")
    binary = getattr(stream, "buffer", None)
    if binary is None:
        stream.write(text.decode("utf-8", "replace"))
    else:
        stream.flush()
        binary.write(text)
    stream.flush()
