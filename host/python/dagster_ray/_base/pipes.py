"""A script on Ray that reports back through Dagster Pipes, from its launch to its end."""

import json
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dagster import (
    AssetExecutionContext,
    MaterializeResult,
    MetadataValue,
    OpExecutionContext,
    PipesContextInjector,
    PipesMessageReader,
    PipesSession,
    open_pipes_session,
)
from dagster._core.pipes.client import PipesClientCompletedInvocation

from dagster_ray.backend import Backend, Pending
from dagster_ray.errors import DagsterRayError, ScriptFailedError, UnavailableError

Context = OpExecutionContext | AssetExecutionContext
Output = Callable[[str, bytes], None]

# A launch that was told to stop answers within its grace.
_ANSWER_SECONDS = 15.0
# A call that came back without the end, and without anything new, is not repeated sooner.
_PAUSE_SECONDS = 1.0
_FRUITLESS = 3
_DEFAULT_STREAMS = {"stdout", "stderr"}


class Script:
    """A script that a backend runs for a step."""

    def __init__(
        self,
        backend: Backend,
        context: Context,
        session: PipesSession,
        *,
        labels: Mapping[str, str],
        options: Mapping[str, Any],
        directories: Iterable[str],
    ) -> None:
        self._backend = backend
        self._context = context
        self._directories = list(directories)
        self._spec = {
            "run_id": context.run_id,
            "step_key": context.get_step_execution_context().step.key,
            "attempt": context.retry_number,
            "nonce": uuid.uuid4().hex[:12],
            "bootstrap": _pairs(session.get_bootstrap_env_vars()),
            "labels": _pairs(labels),
            "image": context.run.tags.get("dagster/image"),
            "options": json.dumps({**options, **backend.options}),
        }
        self.job: dict[str, Any] = {}

    def run(
        self,
        output: Output,
        *,
        forward_termination: bool,
        launched: Callable[["Script"], None],
    ) -> Mapping[str, Any]:
        """Starts it, passes its output on, and returns how it ended.

        However that is broken off, nothing of it runs on, unless ``forward_termination`` is off.
        """
        script = {"script": self._spec}
        self.job = self._backend.call("pipes.plan", script, self._write)
        pending = self._backend.start(
            "pipes.launch", script, self._write, directories=self._directories
        )
        try:
            self.job = pending.result()
            launched(self)
            self._follow(output)
            return self._backend.call("pipes.wait", {"job": self.job}, self._write)
        except BaseException:
            if forward_termination:
                self._terminate(pending)
            raise

    def metadata(self) -> dict[str, Any]:
        """What Dagster shows of the job."""
        shown: dict[str, Any] = {"Ray Job ID": self.job["submission_id"]}
        details = json.loads(self.job.get("details") or "{}")
        if "name" in details:
            shown["RayJob"] = f"{details['namespace']}/{details['name']}"
        if self.job.get("dashboard_url"):
            shown["Ray Dashboard"] = MetadataValue.url(self.job["dashboard_url"])
        return shown

    def _follow(self, output: Output) -> None:
        position, fruitless = None, 0
        while True:
            asked = {"job": self.job, "from": position}
            answer = self._backend.call("pipes.follow", asked, self._write, output=output)
            if answer["complete"]:
                return
            fruitless = fruitless + 1 if answer["position"] == position else 0
            position = answer["position"]
            if fruitless >= _FRUITLESS:
                raise UnavailableError(
                    f"the output of the Ray job {self.job['submission_id']} could not be read for "
                    "a long time, nor its status"
                )
            time.sleep(_PAUSE_SECONDS)

    def _terminate(self, pending: Pending) -> None:
        job = self.job["submission_id"]
        # What is not submitted yet cannot be stopped, and would start afterwards.
        try:
            self.job = pending.result(_ANSWER_SECONDS)
        except (DagsterRayError, TimeoutError):
            pending.cancel()
        self._context.log.info(f"[pipes] stopping the Ray job {job}")
        try:
            status = self._backend.call("pipes.terminate", {"job": self.job}, self._write)
        except DagsterRayError as error:
            self._context.log.error(f"[pipes] the Ray job {job} may still run: {error}")
        else:
            self._context.log.info(f"[pipes] the Ray job {job}: {status['state']}")

    def _write(self, level: str, message: str) -> None:
        getattr(self._context.log, level)(message)


def run_session(
    backend: Backend,
    context: Context,
    *,
    context_injector: PipesContextInjector,
    message_reader: PipesMessageReader,
    extras: dict[str, Any],
    labels: Mapping[str, str],
    options: Mapping[str, Any],
    directories: Iterable[str],
    forward_termination: bool,
    launched: Callable[[Script], dict[str, Any]],
    what: str,
) -> PipesClientCompletedInvocation:
    """Runs a script in a Pipes session of its own, and raises where it did not succeed."""
    with open_pipes_session(
        context=context,
        context_injector=context_injector,
        message_reader=message_reader,
        extras=extras or None,
    ) as session:
        script = Script(
            backend, context, session, labels=labels, options=options, directories=directories
        )
        # A reader of another kind has its own way to the messages.
        receiver = getattr(message_reader, "receiver", None)
        output = forward if receiver is None else receiver(session.message_handler)
        status = script.run(
            output,
            forward_termination=forward_termination,
            launched=lambda script: session.report_launched({"extras": launched(script)}),
        )
    _check(status, f"{what} {script.job['submission_id']}")
    _keep_reported(context, session)
    return _Completed(session, metadata=script.metadata())


class _Completed(PipesClientCompletedInvocation):
    """What came of a script."""

    def get_results(self, *args: Any, **kwargs: Any) -> Any:
        context = self._session.context
        if context.has_assets_def:
            context.set_requires_typed_event_stream(
                error_message="Return the results of the script."
            )
        return super().get_results(*args, **kwargs)


def _keep_reported(context: Context, session: PipesSession) -> None:
    """Lets an asset return nothing, without losing what its script reported.

    Dagster refuses an asset that does not return the session's results. Code from before it did
    so is common; whoever asks for the results falls under the rule again.
    """
    if not isinstance(context, AssetExecutionContext) or not context.has_assets_def:
        return
    context.get_step_execution_context()._requires_typed_event_stream = False
    for result in session.get_reported_results():
        if not isinstance(result, MaterializeResult) or result.asset_key is None:
            continue
        if result.metadata:
            context.add_asset_metadata(result.metadata, asset_key=result.asset_key)
        if result.data_version is not None:
            context.set_data_version(result.asset_key, result.data_version)


def _check(status: Mapping[str, Any], what: str) -> None:
    """Raises where a script did not succeed."""
    state = status["state"]
    if state == "succeeded":
        return
    reason = status.get("message") or "Ray gave no reason"
    raise ScriptFailedError(
        f"[pipes] {what} {state}: {reason}",
        state=state,
        error_type=status.get("error_type"),
        exit_code=status.get("exit_code"),
    )


def forward(channel: str, text: bytes) -> None:
    """Writes a script's output to the stream of this process that Dagster captures."""
    stream = getattr(sys, channel if channel in _DEFAULT_STREAMS else "stdout")
    binary = getattr(stream, "buffer", None)
    if binary is None:
        stream.write(text.decode("utf-8", "replace"))
    else:
        stream.flush()
        binary.write(text)
    stream.flush()


def _pairs(values: Mapping[str, str]) -> list[list[str]]:
    return [[key, value] for key, value in values.items()]
