"""Runs jobs in the process of a test."""

from contextlib import ExitStack
from pathlib import Path

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableJob


class Execute:
    """Runs a job of a file. Keyword arguments are fields of the executor's configuration."""

    def __init__(
        self, jobs: Path, instance: dg.DagsterInstance, stack: ExitStack, **defaults: object
    ) -> None:
        """The results can be used until the end of `stack`."""
        self.instance = instance
        self._jobs = jobs
        self._stack = stack
        self._defaults = defaults

    def __call__(self, job: str, **config: object) -> dg.JobExecutionResult:
        execution = dg.execute_job(
            ReconstructableJob.for_file(str(self._jobs), job),
            instance=self.instance,
            run_config={"execution": {"config": {**self._defaults, **config}}},
            raise_on_error=False,
        )
        return self._stack.enter_context(execution)

    def events(self, result: dg.JobExecutionResult, *kinds: dg.DagsterEventType) -> list:
        return list(self.instance.all_logs(result.run_id, of_type=set(kinds)))


def failure(result: dg.JobExecutionResult, op: str) -> str:
    """Returns the first error of an op that failed."""
    # A worker that is stopped after its step failed reports its interruption, too.
    event, *_ = [e for e in result.get_step_failure_events() if e.step_key == op]
    return event.step_failure_data.error.to_string() if event.step_failure_data.error else ""
