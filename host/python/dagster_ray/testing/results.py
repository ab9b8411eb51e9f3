"""The result of a run in a test."""

from typing import Any

import dagster as dg
from dagster import JobExecutionResult

from dagster_ray.dagster_internals import (
    ReconstructableJob,
    create_execution_plan,
    scoped_job_context,
)
from dagster_ray.testing.code import PARTITION_TAG


class Result:
    """The result of a run. Its `repr` contains the errors of the run."""

    def __init__(
        self, instance: dg.DagsterInstance, job: ReconstructableJob, run: dg.DagsterRun
    ) -> None:
        self._instance = instance
        self._job = job
        self.run = run

    @property
    def success(self) -> bool:
        """Whether the run succeeded."""
        return self.run.status == dg.DagsterRunStatus.SUCCESS

    @property
    def run_id(self) -> str:
        """Dagster's id of the run."""
        return self.run.run_id

    @property
    def events(self) -> list[dg.DagsterEvent]:
        """All events of the run, in order."""
        entries = self._instance.all_logs(self.run_id)
        return [entry.dagster_event for entry in entries if entry.dagster_event is not None]

    def step_events(self, key: str) -> list[dg.DagsterEvent]:
        """The events of one step."""
        return [event for event in self.events if event.step_key == key]

    @property
    def logs(self) -> list[str]:
        """The messages of events and log lines, in order."""
        entries = self._instance.all_logs(self.run_id)
        return [entry.user_message or entry.message for entry in entries]

    @property
    def errors(self) -> list[str]:
        """The errors of the run and of each attempt of each step, with tracebacks if available."""
        found: list[str] = []
        for event in self.events:
            data = event.event_specific_data
            error = getattr(data, "error", None)
            if event.is_failure or event.is_step_up_for_retry or error is not None:
                where = f"step {event.step_key}: " if event.step_key else ""
                found.append(f"{where}{error.to_string() if error else event.message}")
        return found

    def value(self, step: str, output: str = "result") -> Any:
        """Loads the value of an op or asset through its IO manager.

        For an op with mapped outputs, it is a dictionary by mapping key.
        """
        run = self.run
        plan = create_execution_plan(self._job, run_config=run.run_config, tags=run.tags)
        outputs = [
            known
            for planned in plan.steps
            for known in planned.step_outputs
            if (planned.key, known.name) == (step, output)
        ]
        asset = outputs[0].properties.asset_key if outputs else None
        if asset is not None:
            # `JobExecutionResult` does not load assets.
            return self._job.repository.get_definition().load_asset_value(
                asset, instance=self._instance, partition_key=run.tags.get(PARTITION_TAG)
            )
        result = JobExecutionResult(
            self._job.get_definition(),
            # Initializes the run's resources again, for the IO managers.
            scoped_job_context(plan, self._job, run.run_config, run, self._instance),
            self.events,
            dagster_run=run,
        )
        with result:
            return result.output_for_node(step, output)

    def __repr__(self) -> str:
        text = "\n".join(self.errors)
        return f"<run {self.run_id}: {self.run.status.value}>{chr(10) if text else ''}{text}"
