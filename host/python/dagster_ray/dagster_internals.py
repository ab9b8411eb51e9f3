"""All names that this package imports from private modules of Dagster.

A Dagster release that moves a name changes this module only. A name is imported on first use,
because some of the modules take a long time to import. Names that Dagster 1.13 exports publicly are
listed where the lowest supported release may not export them.
"""

from typing import TYPE_CHECKING, Any

from dagster_ray import lazy_names

if TYPE_CHECKING:
    # Public in Dagster 1.13.
    from dagster._core.definitions.executor_definition import (
        multiple_process_executor_requirements as multiple_process_executor_requirements,
    )

    # Load jobs as the CLI does: the public `reconstructable` takes a function, not a module or a
    # file with `Definitions`.
    from dagster._core.definitions.reconstruct import ReconstructableJob as ReconstructableJob
    from dagster._core.definitions.reconstruct import (
        ReconstructableRepository as ReconstructableRepository,
    )

    # Lets a Pipes client be the annotation of a resource parameter.
    from dagster._core.definitions.resource_annotation import (
        TreatAsResourceParam as TreatAsResourceParam,
    )

    # Arguments of the events that `DagsterEvent` and `report_engine_event` create.
    from dagster._core.events import EngineEventData as EngineEventData

    # Initialize the resources of a run that has ended, to load its values, and execute a step as
    # Dagster's multiprocess executor does in its child process.
    from dagster._core.execution.api import create_execution_plan as create_execution_plan
    from dagster._core.execution.api import execute_plan_iterator as execute_plan_iterator

    # The result of `StepHandlerContext.get_step_context`.
    from dagster._core.execution.context.system import IStepContext as IStepContext

    # Arguments of `Executor.execute`.
    from dagster._core.execution.context.system import (
        PlanOrchestrationContext as PlanOrchestrationContext,
    )
    from dagster._core.execution.context_creation_job import (
        create_context_free_log_manager as create_context_free_log_manager,
    )
    from dagster._core.execution.context_creation_job import (
        scoped_job_context as scoped_job_context,
    )

    # The state of a run whose steps `TaskLoop` executes, as in Dagster's multiprocess executor.
    from dagster._core.execution.plan.active import ActiveExecution as ActiveExecution
    from dagster._core.execution.plan.instance_concurrency_context import (
        InstanceConcurrencyContext as InstanceConcurrencyContext,
    )
    from dagster._core.execution.plan.objects import StepFailureData as StepFailureData
    from dagster._core.execution.plan.plan import ExecutionPlan as ExecutionPlan

    # What a step knows of its run.
    from dagster._core.execution.plan.state import KnownExecutionState as KnownExecutionState
    from dagster._core.execution.plan.state import PastExecutionState as PastExecutionState
    from dagster._core.execution.plan.step import ExecutionStep as ExecutionStep
    from dagster._core.execution.plan.step import IExecutionStep as IExecutionStep

    # The mode of retries and the schemas, as in the configuration of Dagster's own executors.
    from dagster._core.execution.retries import RetryMode as RetryMode
    from dagster._core.execution.retries import get_retries_config as get_retries_config
    from dagster._core.execution.tags import (
        get_tag_concurrency_limits_config as get_tag_concurrency_limits_config,
    )

    # The public decorator `executor` accepts functions that return an `Executor`, but Dagster has
    # no public executor to derive from.
    from dagster._core.executor.step_delegating import (
        CheckStepHealthResult as CheckStepHealthResult,
    )
    from dagster._core.executor.step_delegating import (
        StepDelegatingExecutor as StepDelegatingExecutor,
    )
    from dagster._core.executor.step_delegating import StepHandler as StepHandler
    from dagster._core.executor.step_delegating import StepHandlerContext as StepHandlerContext

    # Opens an instance in another process, as run workers do.
    from dagster._core.instance.ref import InstanceRef as InstanceRef

    # Dagster has no public interface for run launchers. `DefaultRunLauncher` is public in 1.13.
    from dagster._core.launcher import CheckRunHealthResult as CheckRunHealthResult
    from dagster._core.launcher import DefaultRunLauncher as DefaultRunLauncher
    from dagster._core.launcher import LaunchRunContext as LaunchRunContext
    from dagster._core.launcher import ResumeRunContext as ResumeRunContext
    from dagster._core.launcher import RunLauncher as RunLauncher
    from dagster._core.launcher import WorkerStatus as WorkerStatus

    # The list of libraries in Dagster's UI has no public interface.
    from dagster._core.libraries import DagsterLibraryRegistry as DagsterLibraryRegistry

    # Public in Dagster 1.13.
    from dagster._core.pipes.client import (
        PipesClientCompletedInvocation as PipesClientCompletedInvocation,
    )
    from dagster._core.pipes.context import PipesMessageHandler as PipesMessageHandler
    from dagster._core.workspace.autodiscovery import (
        loadable_targets_from_python_file as loadable_targets_from_python_file,
    )
    from dagster._core.workspace.autodiscovery import (
        loadable_targets_from_python_module as loadable_targets_from_python_module,
    )

    # Arguments of `dagster api execute_run` and `resume_run`, whose format is private.
    from dagster._grpc.types import ExecuteRunArgs as ExecuteRunArgs
    from dagster._grpc.types import ExecuteStepArgs as ExecuteStepArgs
    from dagster._grpc.types import ResumeRunArgs as ResumeRunArgs

    # Base class of each class that dagster.yaml can name, and the constructor's `inst_data`.
    from dagster._serdes import ConfigurableClass as ConfigurableClass
    from dagster._serdes import ConfigurableClassData as ConfigurableClassData

    # Dagster's own serialization of its objects.
    from dagster._serdes import deserialize_value as deserialize_value
    from dagster._serdes import serialize_value as serialize_value
    from dagster._utils.error import (
        serializable_error_info_from_exc_info as serializable_error_info_from_exc_info,
    )

    # The origin of a job, from which another process loads it.
    from dagster._utils.hosted_user_process import (
        recon_job_from_origin as recon_job_from_origin,
    )

    # Interrupts a step as Dagster's own workers are interrupted.
    from dagster._utils.interrupts import capture_interrupts as capture_interrupts

    # Whether the run worker was interrupted, while Dagster's loop launches a round of steps.
    from dagster._utils.interrupts import check_captured_interrupt as check_captured_interrupt


def __getattr__(name: str) -> Any:
    return lazy_names.find(__name__, name)
