"""The backend {{name}}: executes Dagster runs and steps as processes on Dagster's machine.

To use another infrastructure, replace the calls of ``processes``.

Each exported interface of the world in ``wit`` is a class of the same name. Each call starts with
the module state of the build, so state that has to outlive a call belongs in a record such as
``JobRef``.
"""

import dataclasses
import json
from collections.abc import Callable

import options
from componentize_py_types import Err, Ok, Result
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
from wit_world.imports import logging, processes
from wit_world.imports.model import (
    Error,
    Error_Conflict,
    Error_NotFound,
    Error_Unsupported,
    JobRef,
    JobState,
    JobStatus,
    WorkerCommand,
)
from wit_world.imports.processes import Command, State_Ended, State_Running
from wit_world.imports.reports import Listener


class Describe(exports.Describe):
    def describe(self) -> Description:
        schema = json.dumps(options.SCHEMA)
        return Description(
            name="{{name}}",
            version="0.1.0",
            summary="Executes runs and steps as processes on this machine.",
            options=[(Role.LAUNCHER, schema), (Role.EXECUTOR, schema)],
            settings=[(options.GRACE, options.GRACE_HELP)],
        )


class Launcher(exports.Launcher):
    def plan(self, run: RunSpec) -> RunPlacement:
        chosen = options.merged(run.options, run.tags)
        if not chosen.enabled:
            return RunPlacement_Local()
        _command(run.command, chosen)
        return RunPlacement_Job(
            RunRef(run.run_id, run.attempt, _job(_run_name(run.run_id, run.attempt)))
        )

    def launch(self, run: RunSpec) -> RunRef:
        chosen = options.merged(run.options, run.tags)
        name = _run_name(run.run_id, run.attempt)
        # A launch is repeated if its response was lost, so look for the running process first.
        if _look(name).state == JobState.MISSING:
            _start(name, run.command, chosen)
        return RunRef(run.run_id, run.attempt, _launched(name))

    def resume(self, run: RunSpec) -> RunRef:
        return self.launch(run)

    def terminate(self, run: RunRef, listener: Listener) -> Termination:
        name = run.job.submission_id
        state = _look(name).state
        if state == JobState.RUNNING:
            processes.stop(name, options.grace_ms())
            return Termination.STOPPED
        if state != JobState.MISSING:
            return Termination.ALREADY_ENDED
        if run.job.details is None:
            return Termination.MISSING
        problem = "was started by another Dagster process, and only that process can stop it"
        raise Err(Error_NotFound(f"{name} {problem}"))

    def check(self, runs: list[RunRef]) -> list[JobStatus]:
        return [_look(run.job.submission_id) for run in runs]

    def debug_info(self, run: RunRef) -> str:
        status = _look(run.job.submission_id)
        return f"{status.submission_id}: {status.state.name}\n{status.message or ''}"


class Executor(exports.Executor):
    def plan(self, steps: list[StepSpec]) -> list[Result[Placement, Error]]:
        return [_result(_plan, step) for step in steps]

    def launch(self, steps: list[StepSpec]) -> list[Result[Placement, Error]]:
        return [_result(_launch, step) for step in steps]

    def check(self, steps: list[StepRef]) -> list[JobStatus]:
        return [_look(step.job.submission_id) for step in steps]

    def terminate(self, steps: list[StepRef], listener: Listener) -> list[JobStatus]:
        grace, statuses = options.grace_ms(), []
        for step in steps:
            status = _look(step.job.submission_id)
            if status.state == JobState.RUNNING:
                outcome = processes.stop(status.submission_id, grace)
                state, code = JobState.STOPPED, outcome.exit_code
                status = dataclasses.replace(status, state=state, ended=True, exit_code=code)
            statuses.append(status)
        return statuses

    def finish(self, run_id: str, options: str, tags: list[list[tuple[str, str]]]) -> None:
        """Does nothing, because the steps of a run share no resources."""


def _result(function: Callable[[StepSpec], Placement], step: StepSpec) -> Result[Placement, Error]:
    """Returns a step's placement, or its error: the other steps must not fail with it."""
    try:
        return Ok(function(step))
    except Err as error:
        return error


def _plan(step: StepSpec) -> Placement:
    chosen = options.merged(step.options, step.tags)
    if not chosen.enabled:
        return Placement_Local()
    _command(step.command, chosen)
    return Placement_Job(_reference(step, _job(_step_name(step))))


def _launch(step: StepSpec) -> Placement:
    chosen = options.merged(step.options, step.tags)
    if not chosen.enabled:
        return Placement_Local()
    name = _step_name(step)
    try:
        _start(name, step.command, chosen)
    except Err as error:
        # A conflict means that the step is already running.
        if not isinstance(error.value, Error_Conflict):
            raise
    return Placement_Job(_reference(step, _launched(name)))


def _run_name(run_id: str, attempt: int) -> str:
    return f"run:{run_id}:{attempt}"


def _step_name(step: StepSpec) -> str:
    """Returns a name that depends only on the step, so that a lost reference can be rebuilt."""
    return f"step:{step.run_id}:{step.step_key}:{step.attempt}"


def _start(name: str, worker: WorkerCommand, chosen: options.Options) -> None:
    pid = processes.start(name, _command(worker, chosen))
    logging.log(logging.Level.INFO, "{{name}}", f"{name} is process {pid}")


def _command(worker: WorkerCommand, chosen: options.Options) -> Command:
    """Returns Dagster's command line for the program that the manifest grants."""
    if "api" not in worker.argv:
        raise Err(Error_Unsupported(f"{worker.argv} is not a Dagster command"))
    args = ["-m", "dagster", *worker.argv[worker.argv.index("api") :]]
    if worker.payload is not None:
        args.append(worker.payload)
    # The worker's variables come last and take precedence.
    return Command("python", args, [*chosen.env_vars, *worker.env])


def _job(name: str) -> JobRef:
    return JobRef(name, dashboard_url=None, details=None)


def _launched(name: str) -> JobRef:
    """Returns a reference with details, which mark a job that was launched."""
    return JobRef(name, dashboard_url=None, details='{"launched": true}')


def _reference(step: StepSpec, job: JobRef) -> StepRef:
    return StepRef(step.run_id, step.step_key, step.attempt, job)


def _look(name: str) -> JobStatus:
    found = processes.look(name)
    if isinstance(found, State_Running):
        return JobStatus(name, JobState.RUNNING, False, None, None, None, None)
    if not isinstance(found, State_Ended):
        return JobStatus(name, JobState.MISSING, True, None, None, None, None)
    outcome = found.value
    if outcome.exit_code == 0:
        return JobStatus(name, JobState.SUCCEEDED, True, None, None, 0, None)
    return JobStatus(name, JobState.FAILED, True, outcome.output, None, outcome.exit_code, None)
