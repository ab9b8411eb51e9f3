"""The run launcher that submits Dagster runs as Ray jobs."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
from typing_extensions import Self, Unpack

from dagster_ray.backend import Backend
from dagster_ray.configs import (
    BackendConfig,
    BackendKeywords,
    RayLauncherConfig,
    flatten,
    image_tag,
    schema,
)
from dagster_ray.contract import (
    JobStatus,
    LauncherClient,
    RunPlacement,
    RunRef,
    RunSpec,
    Termination,
    Write,
)
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
from dagster_ray.default_namespace import worker_namespace
from dagster_ray.deployment import deployment_id
from dagster_ray.errors import DagsterRayError
from dagster_ray.instance_policy import check_run_tag, worker_environment
from dagster_ray.launcher import run_reference
from dagster_ray.launcher.location_options import location_options
from dagster_ray.launcher.pending_runs import PendingRuns
from dagster_ray.launcher.run_health import RunHealth
from dagster_ray.reconcile.background import BackgroundReconciliation
from dagster_ray.specs import parse_tag, run_options, worker_spec
from dagster_ray.telemetry import operation, worker_trace

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

_DEFAULT_LAUNCHER = "Dagster's default run launcher"
# Stands for the command of a run that no Ray job can load. Such a run is planned, but not launched.
_NO_COMMAND = ("dagster", "api", "execute_run")


class RayRunLauncher(RunLauncher, ConfigurableClass):
    """Submits each run as its own Ray job, unless the component places it outside Ray."""

    def __init__(
        self,
        address: str | None = None,
        metadata: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        env_vars: Sequence[str] | None = None,
        runtime_env: Mapping[str, object] | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: int | None = None,
        resources: Mapping[str, float] | None = None,
        inst_data: ConfigurableClassData | None = None,
        *,
        verify: bool | str | None = None,
        enabled: bool | None = None,
        **backend: Unpack[BackendKeywords],
    ) -> None:
        self._inst_data = inst_data
        self._reconciliation = BackgroundReconciliation(self)
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
                address=address,
                headers=headers,
                cookies=cookies,
                verify=verify,
                **backend,
            ),
            # The operator chooses the launcher's configuration.
            is_checked=True,
        )
        self._component = LauncherClient(self.backend)
        # The runs whose malformed tag was reported.
        self._reported_tags: set[str] = set()
        self._health = RunHealth(self.backend, self._component)
        self._pending_runs = PendingRuns(self._component.check, self._report)
        # Launches the runs that do not run on Ray.
        self._default_launcher = DefaultRunLauncher()
        super().__init__()

    def register_instance(self, instance: dg.DagsterInstance) -> None:
        super().register_instance(instance)
        self.backend.policy_root = instance.root_directory
        self._default_launcher.register_instance(instance)

    def dispose(self) -> None:
        self._reconciliation.close()
        self._pending_runs.stop()
        self._default_launcher.dispose()

    @property
    def instance(self) -> dg.DagsterInstance:
        """The Dagster instance that the launcher belongs to."""
        return self._instance

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @property
    def run_options(self) -> dict[str, object]:
        """The options of each run, which code locations and tags override."""
        return {**self._options, **self.backend.options}

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
        self._reconciliation.begin()
        run = context.dagster_run
        with operation("launch run", run.run_id):
            spec, directories = self._spec(run, 0, is_resumed=False)
            placement = self._component.plan(spec)
            if placement == "local":
                self._default_launcher.launch_run(context)
            else:
                self._submit(run, self._component.launch, spec, directories, placement["job"])

    def resume_run(self, context: ResumeRunContext) -> None:
        run, attempt = context.dagster_run, context.resume_attempt_number or 0
        with operation("resume run", run.run_id):
            spec, directories = self._spec(run, attempt, is_resumed=True)
            placement = self._component.plan(spec)
            if placement == "local":
                raise DagsterRayError(
                    f"run {run.run_id} cannot be resumed: its configuration says that Ray does not "
                    f"execute it, and {_DEFAULT_LAUNCHER} resumes no runs"
                )
            self._submit(run, self._component.resume, spec, directories, placement["job"])

    def _spec(
        self, run: dg.DagsterRun, attempt: int, *, is_resumed: bool
    ) -> tuple[RunSpec, set[str]]:
        origin = run.job_code_origin
        argv, payload = [*_NO_COMMAND], None
        if origin is not None:
            args_class = ResumeRunArgs if is_resumed else ExecuteRunArgs
            # The last argument is long and may hold secrets, so it is passed as the payload.
            *argv, payload = args_class(
                job_origin=origin,
                run_id=run.run_id,
                instance_ref=self._instance.get_ref(),
                set_exit_code_on_failure=True,
            ).get_command_args()
        override = parse_tag(run.tags)
        check_run_tag(self._instance, override)
        return worker_spec(
            run,
            deployment=deployment_id(self._instance),
            attempt=attempt,
            argv=argv,
            payload=payload,
            env={**worker_namespace(), **worker_environment(self._instance), **worker_trace()},
            tags=run.tags,
            override=override,
            options={
                **self.run_options,
                **location_options(self._instance, run),
            },
        )

    def _submit(
        self,
        run: dg.DagsterRun,
        launch: Callable[..., RunRef],
        spec: RunSpec,
        directories: set[str],
        planned: RunRef,
    ) -> None:
        if run.job_code_origin is None:
            raise DagsterRayError(
                f"run {run.run_id} has no code origin, so that a Ray job cannot load its job; "
                "launch the run from a code location"
            )
        # Before the submission: a process that is killed after it would leave a job that nothing
        # names, and the next check would start a second worker.
        self._instance.add_run_tags(
            run.run_id, {**_unnamed_image(run, spec), **run_reference.write(planned)}
        )
        self._report(run, "Creating Ray run job", planned)
        ref = launch(spec, write=self._writer(run), directories=directories)
        self.backend.given_up.contact()
        self._report(run, "Ray run job created", ref)
        self._pending_runs.add(self._instance, run, ref)
        if ref != planned:
            self._complete_reference(run, ref)

    def _complete_reference(self, run: dg.DagsterRun, ref: RunRef) -> None:
        try:
            self._instance.add_run_tags(run.run_id, run_reference.write(ref))
        except Exception:
            # The planned reference names the job too, and an error would fail a run that executes.
            self._report(
                run, "The session of the Ray job could not be stored in a run tag", ref, failed=True
            )

    def terminate(self, run_id: str) -> bool:
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        ref: RunRef | None = None
        try:
            ref = self._reference(run)
            if ref is None:
                return self._default_launcher.terminate(run_id)
            self._instance.report_run_canceling(run)
            outcome = self._component.terminate(ref, write=self._writer(run))
        except DagsterRayError as error:
            if ref is None:
                self._instance.report_run_canceling(run)
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
        if outcome == "missing":
            # The component learns the deployment from the worker's job, which Ray does not have.
            self._reconciliation.stop_run(run_id)
        return True

    def join(self, timeout: int = 30) -> None:
        self._default_launcher.join(timeout)

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        self._reconciliation.begin()
        checked = self._health.check(self._instance, run, lambda: self._reference(run))
        if checked is None:
            # The default run launcher has no health check: the code server monitors its runs.
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"{_DEFAULT_LAUNCHER} runs it.")
        if isinstance(checked, CheckRunHealthResult):
            return checked
        worker, verdict = self._judge(run, checked)
        if worker in (WorkerStatus.FAILED, WorkerStatus.NOT_FOUND):
            self._reconciliation.await_end(run.run_id)
        return CheckRunHealthResult(worker, verdict, run_worker_id=checked["submission_id"])

    def _judge(self, run: dg.DagsterRun, status: JobStatus) -> tuple[WorkerStatus, str | None]:
        state = status["state"]
        if not status["ended"]:
            return WorkerStatus.RUNNING, status["message"] if state == "unknown" else None
        if state == "missing":
            return WorkerStatus.NOT_FOUND, status["message"] or "Ray has no job for this run."
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
        ref = self._reference(run)
        if ref is None:
            return self._default_launcher.get_run_worker_debug_info(run, include_container_logs)
        if run.status in (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.CANCELING):
            # Dagster asks for this before it ends a run that has not started or was not canceled in
            # time. It does not terminate the run: a queued job would start later, and the process
            # that was to stop the job may have ended before it did.
            self._reconciliation.await_end(run.run_id)
        return self._component.debug_info(ref)

    def _reference(self, run: dg.DagsterRun) -> RunRef | None:
        """Returns the reference to the Ray job of a run, or `None` if Ray does not execute the run.

        A run that was submitted to Ray stays there, even if the configuration has changed.
        """
        # The caller may have read the run before its launch.
        current = self._instance.get_run_by_id(run.run_id) or run
        attempt = self._instance.count_resume_run_attempts(run.run_id)
        try:
            ref = run_reference.read(current.tags, run.run_id, attempt)
        except ValueError as error:
            self._report_tag(run, error)
            ref = None
        if ref is not None:
            return ref
        spec, _ = self._spec(current, attempt, is_resumed=attempt > 0)
        placement: RunPlacement = self._component.plan(spec)
        return None if placement == "local" else placement["job"]

    def _report_tag(self, run: dg.DagsterRun, error: ValueError) -> None:
        """Reports a malformed tag, once for each run."""
        if run.run_id not in self._reported_tags:
            self._reported_tags.add(run.run_id)
            self._instance.report_engine_event(
                f"The run tag {run_reference.RUN_REF_TAG} is ignored, because it is not a "
                f"reference to a Ray job: {error}. Remove the tag: the launcher sets it.",
                run,
                cls=type(self),
            )

    def _writer(self, run: dg.DagsterRun) -> Write:
        def write(level: str, message: str) -> None:
            if level != "debug":
                self._instance.report_engine_event(message, run, cls=type(self))

        return write

    def _report(
        self, run: dg.DagsterRun, message: str, ref: RunRef | None, *, failed: bool = False
    ) -> None:
        metadata: dict[str, Any] = {"Run ID": run.run_id}
        if ref is not None:
            job = ref["job"]
            link = dashboard_link(job, self.backend.config.dashboard_link)
            metadata |= {"Ray Job Submission ID": job["submission_id"], **link}
        error = serializable_error_info_from_exc_info(sys.exc_info()) if failed else None
        self._instance.report_engine_event(
            message, run, EngineEventData(metadata=metadata, error=error), cls=type(self)
        )


def _unnamed_image(run: dg.DagsterRun, spec: RunSpec) -> dict[str, str]:
    """Returns the tag with the image of the run's code location, unless an option names an image.

    As with Dagster's own launchers, the clusters that the run creates use the image of the tag.
    """
    override = parse_tag(run.tags) or {}
    has_option = override.get("image") or json.loads(spec["options"]).get("image")
    return {} if has_option else image_tag(run)
