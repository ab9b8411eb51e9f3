"""Loads the user's job as Dagster does, so that every process can load it again."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from dagster import JobDefinition

from dagster_ray.dagster_internals import (
    ReconstructableJob,
    ReconstructableRepository,
    loadable_targets_from_python_file,
    loadable_targets_from_python_module,
)
from dagster_ray.errors import InvalidConfigError

Code = str | Path | ModuleType

PARTITION_TAG = "dagster/partition"
_ALL_ASSETS = "__ASSET_JOB"


def repository(code: Code) -> ReconstructableRepository:
    """Loads the definitions of a module (`my_project.definitions`) or file (`definitions.py`)."""
    if isinstance(code, ModuleType):
        code = code.__name__
    here = str(Path.cwd())
    if isinstance(code, Path) or code.endswith(".py") or os.sep in code:
        file = str(Path(code).absolute())
        if not Path(file).is_file():
            raise _invalid(f"the file {file} does not exist", "write a module name or a file path")
        found = loadable_targets_from_python_file(file, str(Path(file).parent))
        return ReconstructableRepository.for_file(
            file, _attribute(found, file), working_directory=str(Path(file).parent)
        )
    found = loadable_targets_from_python_module(code, here)
    return ReconstructableRepository.for_module(
        code, _attribute(found, code), working_directory=here
    )


def _attribute(found: Any, code: str) -> str:
    if len(found) != 1:
        names = ", ".join(target.attribute for target in found) or "none"
        raise _invalid(
            f"{code} must have exactly one dg.Definitions, found: {names}",
            "put all jobs and assets into one dg.Definitions",
        )
    return found[0].attribute


def load_job(code: Code, name: str | None) -> tuple[ReconstructableJob, JobDefinition]:
    """Loads a job. Without a name, it is the only job, or otherwise all assets."""
    found = repository(code)
    definitions = found.get_definition()
    names = sorted(definitions.job_names)
    own = [known for known in names if not known.startswith("__")]
    if name is None:
        name = own[0] if len(own) == 1 else _ALL_ASSETS
    if name not in names:
        raise _invalid(f"there is no job {name!r}", f"write one of {', '.join(own) or 'none'}")
    job = found.get_reconstructable_job(name)
    return job, job.get_definition()


def with_partition(
    job: JobDefinition, partition: str | None, run_config: Any, tags: Mapping[str, str] | None
) -> tuple[Any, dict[str, str]]:
    """Returns the run configuration and the tags of a run, for a partition if one is given."""
    tags = dict(tags or {})
    if partition is None:
        return run_config, tags
    partitioned = job.partitioned_config
    if run_config is None and partitioned is not None:
        run_config = partitioned.get_run_config_for_partition_key(partition)
        tags = {**partitioned.get_tags_for_partition_key(partition), **tags}
    return run_config, {PARTITION_TAG: partition, **tags}


def _invalid(problem: str, hint: str) -> InvalidConfigError:
    return InvalidConfigError(
        f"{problem}; {hint}", fields=[{"path": "code", "problem": problem, "hint": hint}]
    )
