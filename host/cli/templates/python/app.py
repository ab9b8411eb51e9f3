"""The backend {{name}}: Dagster runs and steps as processes of the machine that Dagster is on.

It works as it is. To bring Dagster to infrastructure of your own, put its requests where this file
calls ``processes``.

A class for each interface that the world in ``wit`` exports, called like it. Each call gets a fresh
copy of what this module was when the component was built: what has to last is a record, such as a
``JobRef``.
"""

import dataclasses
import json

import options
from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.describe import Description, Role
from wit_world.exports.executor import StepRef, StepSpec
from wit_world.exports.launcher import RunRef, RunSpec, Termination
from wit_world.imports import logging, processes
from wit_world.imports.model import (
    Error_Conflict,
    Error_NotFound,
    Error_Unsupported,
    JobRef,
    JobState,
    JobStatus,
    WorkerCommand,
)
from wit_world.imports.processes import Command, State_Ended, State_Running
from wit_world.imports.sink import Listener


class Describe(exports.Describe):
    def describe(self) -> Description:
        schema = json.dumps(options.SCHEMA)
        return Description(
            name="{{name}}",
            version="0.1.0",
            summary="Runs and steps as processes of this machine.",
            options=[(Role.LAUNCHER, schema), (Role.EXECUTOR, schema)],
            settings=[(options.GRACE, options.GRACE_IS)],
        )


class Launcher(exports.Launcher):
    def launch(self, run: RunSpec) -> RunRef:
        chosen = options.merged(run.options, run.tags)
        name = _run_name(run.run_id, run.attempt)
        # A launch can be repeated, because its answer was lost: it finds what is there.
        if _look(name).state == JobState.MISSING:
            _start(name, run.command, chosen)
        return RunRef(run.run_id, run.attempt, _launched(name))

    def resume(self, run: RunSpec) -> RunRef:
        return self.launch(run)

    def locate(self, run_id: str, attempt: int) -> RunRef:
        return RunRef(run_id, attempt, _job(_run_name(run_id, attempt)))

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
        only = "was started by another process of Dagster, and only that one can stop it"
        raise Err(Error_NotFound(f"{name} {only}"))

    def check(self, runs: list[RunRef]) -> list[JobStatus]:
        return [_look(run.job.submission_id) for run in runs]

    def debug_info(self, run: RunRef) -> str:
        status = _look(run.job.submission_id)
        return f"{status.submission_id}: {status.state.name}\n{status.message or ''}"


class Executor(exports.Executor):
    def plan(self, step: StepSpec) -> StepRef:
        _command(step.command, options.merged(step.options, step.tags))
        return _reference(step, _job(_step_name(step)))

    def launch(self, step: StepSpec) -> StepRef:
        chosen = options.merged(step.options, step.tags)
        name = _step_name(step)
        try:
            _start(name, step.command, chosen)
        except Err as error:
            # Where it is a conflict, it runs already.
            if not isinstance(error.value, Error_Conflict):
                raise
        return _reference(step, _launched(name))

    def check(self, steps: list[StepRef]) -> list[JobStatus]:
        return [_look(step.job.submission_id) for step in steps]

    def terminate(self, steps: list[StepRef], listener: Listener) -> list[JobStatus]:
        grace, statuses = options.grace_ms(), []
        for step in steps:
            status = _look(step.job.submission_id)
            if status.state == JobState.RUNNING:
                outcome = processes.stop(status.submission_id, grace)
                state, code = JobState.STOPPED, outcome.exit_code
                status = dataclasses.replace(status, state=state, exit_code=code)
            statuses.append(status)
        return statuses

    def finish(self, run_id: str, options: str) -> None:
        """The steps of a run share nothing that was made for them."""


def _run_name(run_id: str, attempt: int) -> str:
    return f"run:{run_id}:{attempt}"


def _step_name(step: StepSpec) -> str:
    """A name is a function of what it names, so that a lost reference can be made again."""
    return f"step:{step.run_id}:{step.step_key}:{step.attempt}"


def _start(name: str, worker: WorkerCommand, chosen: options.Options) -> None:
    pid = processes.start(name, _command(worker, chosen))
    logging.log(logging.Level.INFO, "{{name}}", f"{name} is process {pid}")


def _command(worker: WorkerCommand, chosen: options.Options) -> Command:
    """Dagster's own command line, for the program that the manifest grants."""
    if "api" not in worker.argv:
        raise Err(Error_Unsupported(f"the command {worker.argv} is none of Dagster's"))
    args = ["-m", "dagster", *worker.argv[worker.argv.index("api") :]]
    if worker.payload is not None:
        args.append(worker.payload)
    # What the worker needs comes last, and wins.
    return Command("python", args, [*chosen.env_vars, *worker.env])


def _job(name: str) -> JobRef:
    return JobRef(name, dashboard_url=None, details=None)


def _launched(name: str) -> JobRef:
    """The details tell it from what was only named, and never launched."""
    return JobRef(name, dashboard_url=None, details='{"launched": true}')


def _reference(step: StepSpec, job: JobRef) -> StepRef:
    return StepRef(step.run_id, step.step_key, step.attempt, job)


def _look(name: str) -> JobStatus:
    found = processes.look(name)
    if isinstance(found, State_Running):
        return JobStatus(name, JobState.RUNNING, None, None, None)
    if not isinstance(found, State_Ended):
        return JobStatus(name, JobState.MISSING, None, None, None)
    outcome = found.value
    if outcome.exit_code == 0:
        return JobStatus(name, JobState.SUCCEEDED, None, None, 0)
    return JobStatus(name, JobState.FAILED, outcome.output, None, outcome.exit_code)
