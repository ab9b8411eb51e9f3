"""The run launcher that submits Dagster runs as Ray jobs."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import dagster as dg
from typing_extensions import Self, Unpack

from dagster_ray.backend import Backend
from dagster_ray.configs import BackendConfig, BackendKeywords, RayLauncherConfig, flatten, schema
from dagster_ray.contract import JobStatus, LauncherClient, RunRef, Termination, Write
from dagster_ray.dagster_internals import (
    CheckRunHealthResult,
    ConfigurableClass,
    ConfigurableClassData,
    DefaultRunLauncher,
    EngineEventData,
    ExecuteRunArgs,
    LaunchRunContext,
    ResumeRunArgs,
    ResumeRunContext,
    RunLauncher,
    WorkerStatus,
    serializable_error_info_from_exc_info,
)
from dagster_ray.dashboard import dashboard_link
from dagster_ray.deployment import deployment_id
from dagster_ray.errors import DagsterRayError
from dagster_ray.launcher.pending_runs import PendingRuns
from dagster_ray.reachability import Reachability
from dagster_ray.specs import parse_tag, run_options, runs_on_ray, worker_spec

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

# The run tag with the reference to the run's Ray job, as JSON.
RUN_REF_TAG = "dagster-ray/run"


class RayRunLauncher(RunLauncher, ConfigurableClass):
    """Submits each run as its own Ray job, unless its tag disables that."""

    def __init__(
        self,
        address: str | None = None,
        metadata: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        env_vars: Sequence[str] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: int | None = None,
        resources: Mapping[str, float] | None = None,
        inst_data: ConfigurableClassData | None = None,
        *,
        verify: bool | str | None = None,
        enabled: bool | None = None,
        unreachable_timeout: float | None = None,
        **backend: Unpack[BackendKeywords],
    ) -> None:
        self._inst_data = inst_data
        self._options = run_options(
            {
                "enabled": enabled,
                "metadata": metadata,
                "env_vars": None if env_vars is None else list(env_vars),
                "runtime_env": runtime_env,
                "num_cpus": num_cpus,
                "num_gpus": num_gpus,
                "memory": memory,
                "resources": resources,
            }
        )
        self.backend = Backend(
            BackendConfig.validated(
                address=address, headers=headers, cookies=cookies, verify=verify, **backend
            )
        )
        self._component = LauncherClient(self.backend)
        self._reachability = Reachability(unreachable_timeout)
        self._pending_runs = PendingRuns(self._component.check, self._report)
        # Launches the runs that do not run on Ray.
        self._default_launcher = DefaultRunLauncher()
        super().__init__()

    def register_instance(self, instance: dg.DagsterInstance) -> None:
        super().register_instance(instance)
        self._default_launcher.register_instance(instance)

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return schema(RayLauncherConfig)

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        return cls(inst_data=inst_data, **flatten(config_value))

    @property
    def client(self) -> "JobSubmissionClient":
        """Ray's `JobSubmissionClient` for the same Ray."""
        return self.backend.submission_client()

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    @property
    def supports_resume_run(self) -> bool:
        return True

    @property
    def supports_run_worker_crash_recovery(self) -> bool:
        return True

    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        override = parse_tag(run.tags)
        if self._is_on_ray(run, override):
            self._submit(run, override, 0, is_resumed=False)
        else:
            self._default_launcher.launch_run(context)

    def resume_run(self, context: ResumeRunContext) -> None:
        run, attempt = context.dagster_run, context.resume_attempt_number or 0
        override = parse_tag(run.tags)
        if self._is_on_ray(run, override):
            self._submit(run, override, attempt, is_resumed=True)
        else:
            self._default_launcher.resume_run(context)

    def _submit(
        self,
        run: dg.DagsterRun,
        override: Mapping[str, Any] | None,
        attempt: int,
        *,
        is_resumed: bool,
    ) -> None:
        origin = run.job_code_origin
        if origin is None:
            raise DagsterRayError(
                f"run {run.run_id} has no code origin, so that a Ray job cannot load its job; "
                "launch the run from a code location"
            )
        args_class = ResumeRunArgs if is_resumed else ExecuteRunArgs
        # The last argument is long and may hold secrets, so it is passed as the payload.
        *argv, payload = args_class(
            job_origin=origin,
            run_id=run.run_id,
            instance_ref=self._instance.get_ref(),
            set_exit_code_on_failure=True,
        ).get_command_args()
        spec, directories = worker_spec(
            run,
            deployment=deployment_id(self._instance),
            attempt=attempt,
            argv=argv,
            payload=payload,
            env={},
            tags=run.tags,
            override=override,
            options={**self._options, **self.backend.options},
        )
        located = self._component.locate(run.run_id, attempt)
        self._report(run, "Creating Ray run job", located)
        launch = self._component.resume if is_resumed else self._component.launch
        ref = launch(spec, write=self._writer(run), directories=directories)
        self._instance.add_run_tags(run.run_id, {RUN_REF_TAG: json.dumps(ref)})
        self._report(run, "Ray run job created", ref)
        self._pending_runs.add(self._instance, run, ref)

    def terminate(self, run_id: str) -> bool:
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        if not self._is_on_ray(run, parse_tag(run.tags)):
            return self._default_launcher.terminate(run_id)
        self._instance.report_run_canceling(run)
        ref = self._reference(run)
        try:
            outcome = self._component.terminate(ref, write=self._writer(run))
        except DagsterRayError as error:
            self._report(run, f"The Ray job could not be stopped: {error}", ref, failed=True)
            return False
        what: dict[Termination, str] = {
            "stopped": "Run was terminated successfully.",
            "already-ended": "Run was terminated (the Ray job was already terminated).",
            "missing": "Run was terminated (Ray has no such job).",
        }
        self._report(run, what[outcome], ref)
        # A worker that had started has already reported the end of the run.
        run = self._instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            self._instance.report_run_canceled(run)
        return True

    def dispose(self) -> None:
        self._pending_runs.stop()
        self._default_launcher.dispose()

    def join(self, timeout: int = 30) -> None:
        self._default_launcher.join(timeout)

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        if not self._is_on_ray(run, parse_tag(run.tags)):
            # The default run launcher has no health check: the code server monitors its runs.
            return CheckRunHealthResult(
                WorkerStatus.RUNNING, "Dagster's default run launcher runs it."
            )

        def report(message: str) -> None:
            self._instance.report_engine_event(message, run, cls=type(self))

        submission_id: str | None = None
        try:
            ref = self._reference(run)
            submission_id = ref["job"]["submission_id"]
            [status] = self._component.check([ref])
        except DagsterRayError as error:
            outage = self._reachability.failed(error, report, run.run_id)
            return CheckRunHealthResult(
                WorkerStatus.UNKNOWN if outage.is_final else WorkerStatus.RUNNING,
                str(outage),
                transient=not outage.is_final,
                run_worker_id=submission_id,
            )
        self._reachability.succeeded(report, run.run_id)
        worker, verdict = self._judge(run, status)
        return CheckRunHealthResult(worker, verdict, run_worker_id=status["submission_id"])

    def _judge(self, run: dg.DagsterRun, status: JobStatus) -> tuple[WorkerStatus, str | None]:
        state = status["state"]
        if not status["ended"]:
            return WorkerStatus.RUNNING, None
        if state == "missing":
            return WorkerStatus.NOT_FOUND, "Ray has no job for this run."
        # The job may have ended since the caller read the run.
        current = self._instance.get_run_by_id(run.run_id) or run
        if current.is_finished and state == "succeeded":
            return WorkerStatus.SUCCESS, None
        if state == "failed":
            return WorkerStatus.FAILED, f"Ray job failed. Message: {status['message']}"
        if state == "stopped":
            return WorkerStatus.FAILED, "The Ray job was stopped externally."
        return (
            WorkerStatus.FAILED,
            f"The Ray job has ended ({state}), but the run has not completed.",
        )

    def get_run_worker_debug_info(
        self, run: dg.DagsterRun, include_container_logs: bool | None = True
    ) -> str | None:
        if not self._is_on_ray(run, parse_tag(run.tags)):
            return self._default_launcher.get_run_worker_debug_info(run, include_container_logs)
        ref = self._reference(run)
        if run.status != dg.DagsterRunStatus.STARTING:
            return self._component.debug_info(ref)
        try:
            info = self._component.debug_info(ref)
        except DagsterRayError as error:
            info = f"{error}\n"
        return info + self._stop_unstarted(run, ref)

    def _stop_unstarted(self, run: dg.DagsterRun, ref: RunRef) -> str:
        """Stops the job of a run that has not started in time, and returns the outcome as text.

        Dagster's run monitoring asks for the debug info of such a run and then fails it, but it
        terminates nothing: the job would stay in its queue, and start later for a failed run.
        """
        try:
            outcome = self._component.terminate(ref, write=self._writer(run))
        except DagsterRayError as error:
            return f"The Ray job could not be stopped, and may still start: {error}\n"
        return f"The Ray job was stopped, because the run has not started in time ({outcome}).\n"

    def _is_on_ray(self, run: dg.DagsterRun, override: Mapping[str, Any] | None) -> bool:
        # A run that was submitted to Ray stays there, even if the configuration has changed.
        return RUN_REF_TAG in run.tags or runs_on_ray(self._options, override)

    def _reference(self, run: dg.DagsterRun) -> RunRef:
        # The caller may have read the run before its launch.
        current = self._instance.get_run_by_id(run.run_id) or run
        tag = current.tags.get(RUN_REF_TAG)
        if tag is not None:
            return cast(RunRef, json.loads(tag))
        attempt = self._instance.count_resume_run_attempts(run.run_id)
        return self._component.locate(run.run_id, attempt)

    def _writer(self, run: dg.DagsterRun) -> Write:
        def write(level: str, message: str) -> None:
            if level != "debug":
                self._instance.report_engine_event(message, run, cls=type(self))

        return write

    def _report(
        self, run: dg.DagsterRun, message: str, ref: RunRef, *, failed: bool = False
    ) -> None:
        job = ref["job"]
        metadata: dict[str, Any] = {
            "Ray Job Submission ID": job["submission_id"],
            "Run ID": run.run_id,
            **dashboard_link(job),
        }
        error = serializable_error_info_from_exc_info(sys.exc_info()) if failed else None
        self._instance.report_engine_event(
            message, run, EngineEventData(metadata=metadata, error=error), cls=type(self)
        )
