"""All names that this package imports from private modules of Dagster.

A Dagster release that moves a name changes this module only. A name is imported on first use,
because some of the modules take a long time to import. Names that Dagster 1.13 exports publicly are
listed where the lowest supported release may not export them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster._core.definitions.executor_definition import (
        multiple_process_executor_requirements as multiple_process_executor_requirements,
    )
    from dagster._core.definitions.reconstruct import ReconstructableJob as ReconstructableJob
    from dagster._core.definitions.reconstruct import (
        ReconstructableRepository as ReconstructableRepository,
    )
    from dagster._core.definitions.resource_annotation import (
        TreatAsResourceParam as TreatAsResourceParam,
    )
    from dagster._core.events import EngineEventData as EngineEventData
    from dagster._core.execution.api import create_execution_plan as create_execution_plan
    from dagster._core.execution.context.system import IStepContext as IStepContext
    from dagster._core.execution.context.system import (
        PlanOrchestrationContext as PlanOrchestrationContext,
    )
    from dagster._core.execution.context_creation_job import (
        scoped_job_context as scoped_job_context,
    )
    from dagster._core.execution.plan.objects import StepFailureData as StepFailureData
    from dagster._core.execution.plan.plan import ExecutionPlan as ExecutionPlan
    from dagster._core.execution.retries import RetryMode as RetryMode
    from dagster._core.execution.retries import get_retries_config as get_retries_config
    from dagster._core.execution.tags import (
        get_tag_concurrency_limits_config as get_tag_concurrency_limits_config,
    )
    from dagster._core.executor.step_delegating import (
        CheckStepHealthResult as CheckStepHealthResult,
    )
    from dagster._core.executor.step_delegating import (
        StepDelegatingExecutor as StepDelegatingExecutor,
    )
    from dagster._core.executor.step_delegating import StepHandler as StepHandler
    from dagster._core.executor.step_delegating import StepHandlerContext as StepHandlerContext
    from dagster._core.launcher import CheckRunHealthResult as CheckRunHealthResult
    from dagster._core.launcher import DefaultRunLauncher as DefaultRunLauncher
    from dagster._core.launcher import LaunchRunContext as LaunchRunContext
    from dagster._core.launcher import ResumeRunContext as ResumeRunContext
    from dagster._core.launcher import RunLauncher as RunLauncher
    from dagster._core.launcher import WorkerStatus as WorkerStatus
    from dagster._core.libraries import DagsterLibraryRegistry as DagsterLibraryRegistry
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
    from dagster._grpc.types import ExecuteRunArgs as ExecuteRunArgs
    from dagster._grpc.types import ResumeRunArgs as ResumeRunArgs
    from dagster._serdes import ConfigurableClass as ConfigurableClass
    from dagster._serdes import ConfigurableClassData as ConfigurableClassData
    from dagster._utils.error import (
        serializable_error_info_from_exc_info as serializable_error_info_from_exc_info,
    )

_MODULES = {
    # Dagster has no public interface for run launchers.
    "CheckRunHealthResult": "dagster._core.launcher",
    "LaunchRunContext": "dagster._core.launcher",
    "ResumeRunContext": "dagster._core.launcher",
    "RunLauncher": "dagster._core.launcher",
    "WorkerStatus": "dagster._core.launcher",
    # Public in Dagster 1.13.
    "DefaultRunLauncher": "dagster._core.launcher",
    # Base class of each class that dagster.yaml can name, and the constructor's `inst_data`.
    "ConfigurableClass": "dagster._serdes",
    "ConfigurableClassData": "dagster._serdes",
    # Arguments of `dagster api execute_run` and `resume_run`, whose format is private.
    "ExecuteRunArgs": "dagster._grpc.types",
    "ResumeRunArgs": "dagster._grpc.types",
    # The public decorator `executor` accepts functions that return an `Executor`, but Dagster has
    # no public executor to derive from.
    "StepDelegatingExecutor": "dagster._core.executor.step_delegating",
    "StepHandler": "dagster._core.executor.step_delegating",
    "StepHandlerContext": "dagster._core.executor.step_delegating",
    "CheckStepHealthResult": "dagster._core.executor.step_delegating",
    # Arguments of `Executor.execute`.
    "ExecutionPlan": "dagster._core.execution.plan.plan",
    "PlanOrchestrationContext": "dagster._core.execution.context.system",
    # The result of `StepHandlerContext.get_step_context`.
    "IStepContext": "dagster._core.execution.context.system",
    # The mode of retries and its schema, as in the configuration of Dagster's own executors.
    "RetryMode": "dagster._core.execution.retries",
    "get_retries_config": "dagster._core.execution.retries",
    # The schema of `tag_concurrency_limits`, as in the configuration of Dagster's own executors.
    "get_tag_concurrency_limits_config": "dagster._core.execution.tags",
    # Public in Dagster 1.13.
    "multiple_process_executor_requirements": "dagster._core.definitions.executor_definition",
    # Arguments of the events that `DagsterEvent` and `report_engine_event` create.
    "EngineEventData": "dagster._core.events",
    "StepFailureData": "dagster._core.execution.plan.objects",
    "serializable_error_info_from_exc_info": "dagster._utils.error",
    # Lets a Pipes client be the annotation of a resource parameter.
    "TreatAsResourceParam": "dagster._core.definitions.resource_annotation",
    # Public in Dagster 1.13.
    "PipesClientCompletedInvocation": "dagster._core.pipes.client",
    "PipesMessageHandler": "dagster._core.pipes.context",
    # The list of libraries in Dagster's UI has no public interface.
    "DagsterLibraryRegistry": "dagster._core.libraries",
    # Load jobs as the CLI does: the public `reconstructable` takes a function, not a module or a
    # file with `Definitions`.
    "ReconstructableJob": "dagster._core.definitions.reconstruct",
    "ReconstructableRepository": "dagster._core.definitions.reconstruct",
    "loadable_targets_from_python_file": "dagster._core.workspace.autodiscovery",
    "loadable_targets_from_python_module": "dagster._core.workspace.autodiscovery",
    # Initialize the resources of a run that has ended, to load its values.
    "create_execution_plan": "dagster._core.execution.api",
    "scoped_job_context": "dagster._core.execution.context_creation_job",
}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value
