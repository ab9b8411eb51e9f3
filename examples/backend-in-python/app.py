"""Dagster runs, steps and scripts as commands of the service in ``../command-runner``.

Each class implements the exported interface of its name. They share ``service`` (the HTTP client),
``options`` (the configuration) and ``jobs`` (names and contents of jobs).
"""

import json
from collections.abc import Callable

import jobs
import options
from componentize_py_types import Err, Ok, Result
from http_client import Response
from service import SETTINGS, Service, sleep
from wit_world import exports
from wit_world.exports.describe import Description, Role
from wit_world.exports.executor import (
    Placement,
    Placement_Job,
    Placement_Local,
    StepRef,
    StepSpec,
)
from wit_world.exports.launcher import (
    RunPlacement,
    RunPlacement_Job,
    RunPlacement_Local,
    RunRef,
    RunSpec,
    Termination,
)
from wit_world.exports.pipes import Followed, ScriptSpec
from wit_world.imports.model import (
    Error,
    Error_Cancelled,
    JobRef,
    JobState,
    JobStatus,
)
from wit_world.imports.reports import Channel, Listener

# Bytes of output in the debug info.
_TAIL = 16 << 10
# How long to wait for output before checking whether the caller has canceled.
_QUIET_SECONDS = 0.5
_POLL_SECONDS = 0.5
# How often in a row the stream may break without another complete line.
_BREAKS = 5


class Describe(exports.Describe):
    def describe(self) -> Description:
        return Description(
            name="command-runner",
            version="0.1.0",
            summary="Runs, steps and scripts as commands of a command runner.",
            options=[
                (Role.LAUNCHER, json.dumps(options.WORKER_SCHEMA)),
                (Role.EXECUTOR, json.dumps(options.WORKER_SCHEMA)),
                (Role.PIPES, json.dumps(options.SCRIPT_SCHEMA)),
            ],
            settings=list(SETTINGS.items()),
        )


class Launcher(exports.Launcher):
    def plan(self, run: RunSpec) -> RunPlacement:
        if options.of_worker(run.options, run.tags).get("enabled") is False:
            return RunPlacement_Local()
        reference = Service.configured().reference(jobs.run_id(run.run_id, run.attempt))
        return RunPlacement_Job(RunRef(run.run_id, run.attempt, reference))

    def launch(self, run: RunSpec) -> RunRef:
        service = Service.configured()
        chosen = options.of_worker(run.options, run.tags)
        labels = {
            jobs.DEPLOYMENT: run.deployment,
            "dagster/run-id": run.run_id,
            "dagster/job": run.job_name,
        }
        spec = jobs.of_worker(run.command, chosen, labels)
        started = service.start(jobs.run_id(run.run_id, run.attempt), spec)
        return RunRef(run.run_id, run.attempt, service.reference(started["id"]))

    def resume(self, run: RunSpec) -> RunRef:
        return self.launch(run)

    def terminate(self, run: RunRef, listener: Listener) -> Termination:
        service = Service.configured()
        id = run.job.submission_id
        state = service.look([id])[0].state
        if state == JobState.MISSING:
            return Termination.MISSING
        if state != JobState.RUNNING:
            return Termination.ALREADY_ENDED
        service.stop([id], listener)
        return Termination.STOPPED

    def check(self, runs: list[RunRef]) -> list[JobStatus]:
        return Service.configured().look([run.job.submission_id for run in runs])

    def debug_info(self, run: RunRef) -> str:
        service = Service.configured()
        id = run.job.submission_id
        state = service.look([id])[0].state
        tail = b""
        if output := service.output(id, 0):
            with output:
                # The stream of a running job does not end.
                while data := output.read(_QUIET_SECONDS):
                    tail = (tail + data)[-_TAIL:]
        return f"{id}: {state.name}\nThe end of its output:\n{tail.decode(errors='replace')}"


class Executor(exports.Executor):
    def plan(self, steps: list[StepSpec]) -> list[Result[Placement, Error]]:
        service = Service.configured()
        return [_result(self._plan, service, step) for step in steps]

    def launch(self, steps: list[StepSpec]) -> list[Result[Placement, Error]]:
        service = Service.configured()
        return [_result(self._launch, service, step) for step in steps]

    def _plan(self, service: Service, step: StepSpec) -> Placement:
        if self._spec(step) is None:
            return Placement_Local()
        return Placement_Job(self._reference(step, service))

    def _launch(self, service: Service, step: StepSpec) -> Placement:
        spec = self._spec(step)
        if spec is None:
            return Placement_Local()
        reference = self._reference(step, service)
        id = reference.job.submission_id
        found = service.start(id, spec)
        is_ours = found["labels"].get(jobs.LAUNCH) == spec["labels"][jobs.LAUNCH]
        if found["state"] != "running" and not is_ours:
            # The ended job belongs to an earlier worker of a resumed run.
            service.forget(id)
            service.start(id, spec)
        return Placement_Job(reference)

    def check(self, steps: list[StepRef]) -> list[JobStatus]:
        return Service.configured().look([step.job.submission_id for step in steps])

    def terminate(self, steps: list[StepRef], listener: Listener) -> list[JobStatus]:
        return Service.configured().stop([step.job.submission_id for step in steps], listener)

    def finish(self, run_id: str, options: str, tags: list[list[tuple[str, str]]]) -> None:
        """Does nothing: this backend creates nothing that the steps of a run share."""

    def _spec(self, step: StepSpec) -> jobs.Spec | None:
        """Returns a step's job, or None if the step runs in a process of the run worker."""
        chosen = options.of_worker(step.options, step.tags)
        if chosen.get("enabled") is False:
            return None
        labels = {
            jobs.DEPLOYMENT: step.deployment,
            "dagster/run-id": step.run_id,
            "dagster/job": step.job_name,
            "dagster/step-key": step.step_key,
        }
        return jobs.of_worker(step.command, chosen, labels)

    def _reference(self, step: StepSpec, service: Service) -> StepRef:
        id = jobs.step_id(step.run_id, step.step_key, step.attempt)
        return StepRef(step.run_id, step.step_key, step.attempt, service.reference(id))


def _result(
    function: Callable[[Service, StepSpec], Placement], service: Service, step: StepSpec
) -> Result[Placement, Error]:
    """Returns a step's placement, or its error: the other steps must not fail with it."""
    try:
        return Ok(function(service, step))
    except Err as error:
        return error


class Pipes(exports.Pipes):
    def plan(self, script: ScriptSpec) -> JobRef:
        options.of_script(script.options)
        return Service.configured().reference(jobs.script_id(script.run_id, script.nonce))

    def launch(self, script: ScriptSpec, listener: Listener) -> JobRef:
        service = Service.configured()
        chosen = options.of_script(script.options)
        labels = {**dict(script.labels), jobs.DEPLOYMENT: script.deployment}
        spec = jobs.of_script(chosen, dict(script.bootstrap), labels)
        if listener.cancelled():
            raise Err(Error_Cancelled())
        started = service.start(jobs.script_id(script.run_id, script.nonce), spec)
        return service.reference(started["id"])

    def follow(self, job: JobRef, from_: str | None, listener: Listener) -> Followed:
        try:
            position = int(from_ or 0)
        except ValueError:
            options.invalid("from", f"{from_!r} is not a position", "pass what `follow` returned")
        service, left, incomplete = Service.configured(), _BREAKS, b""
        while output := service.output(job.submission_id, position):
            with output:
                reached, incomplete = _forward(output, position, listener)
            left = _BREAKS if reached > position else left - 1
            position = reached
            if output.ended:
                break
            if not left:
                # The caller continues at this position.
                return Followed(str(position), complete=False)
            # The service sends an incomplete line again.
            incomplete = b""
            sleep(_POLL_SECONDS)
        if incomplete:
            listener.output(Channel.STDOUT, [incomplete])
        return Followed(str(position + len(incomplete)), complete=True)

    def wait(self, job: JobRef, listener: Listener) -> JobStatus:
        service = Service.configured()
        while (status := service.look([job.submission_id])[0]).state == JobState.RUNNING:
            if listener.cancelled():
                raise Err(Error_Cancelled())
            sleep(_POLL_SECONDS)
        return status

    def terminate(self, job: JobRef, listener: Listener) -> JobStatus:
        return Service.configured().stop([job.submission_id], listener)[0]


def _forward(output: Response, position: int, listener: Listener) -> tuple[int, bytes]:
    """Forwards complete lines until the output ends or the connection breaks.

    Returns the position after the last complete line, and the incomplete line after it.
    """
    incomplete = b""
    while not output.ended:
        if listener.cancelled():
            raise Err(Error_Cancelled())
        try:
            incomplete += output.read(_QUIET_SECONDS)
        except Err:
            break
        complete, end, incomplete = incomplete.rpartition(b"\n")
        if end:
            listener.output(Channel.STDOUT, complete.split(b"\n"))
            position += len(complete) + 1
    return position, incomplete
