"""What is checked: a Dagster instance, its policy, and the backend of its run launcher."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg

from dagster_ray import _library
from dagster_ray.backend import Backend
from dagster_ray.component_files import native
from dagster_ray.configs import BackendConfig
from dagster_ray.doctor.check import Check, failed, not_checked, ok, warning
from dagster_ray.errors import DagsterRayError
from dagster_ray.launcher.run_launcher import RayRunLauncher

_library.register()

# They take precedence over an address of the configuration, but not over an argument.
_ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


@dataclass
class Options:
    """The arguments of the command."""

    address: str | None = None
    backend: str | None = None
    namespace: str | None = None
    submit: bool = True
    start_cluster: bool = False
    timeout: float | None = None


@dataclass
class Subject:
    """What is checked. Fields that a check did not find are `None`."""

    options: Options
    instance: dg.DagsterInstance | None = None
    backend: Backend | None = None
    # The options of the launcher's runs.
    run_options: dict[str, object] = field(default_factory=dict[str, object])
    # Whether the component uses Kubernetes, so that runs have clusters of their own.
    is_on_kubernetes: bool = False

    @property
    def root(self) -> str | None:
        """The root directory of the instance."""
        return None if self.instance is None else self.instance.root_directory


def open_instance(subject: Subject, stack: ExitStack) -> Check:
    """Loads the instance of DAGSTER_HOME."""
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        remedy = "export DAGSTER_HOME=<the directory of dagster.yaml>"
        if subject.options.address or subject.options.backend:
            return not_checked("instance", "DAGSTER_HOME is not set", remedy)
        return failed("instance", "DAGSTER_HOME is not set", remedy)
    try:
        subject.instance = stack.enter_context(dg.DagsterInstance.get())
        storage = type(subject.instance.run_storage).__name__
        subject.instance.get_runs_count()
    except Exception as error:
        # The storage's own exceptions have no common class.
        subject.instance = None
        remedy = f"correct {Path(home) / 'dagster.yaml'}, or start the database that it names"
        return failed("instance", f"{home}: {problem(error)}", remedy)
    return ok("instance", f"{home} ({storage})")


def check_policy(subject: Subject) -> Check:
    """Checks the file that says who may choose which value."""
    try:
        native().check_choices("[]", subject.root)
        text = native().policy_text(subject.root)
        keys = native().value_key_files(subject.root) or []
    except DagsterRayError as error:
        return failed(
            "policy", str(error), "correct the file; `dagster-ray explain policy` lists its keys"
        )
    missing = [file for file in keys if not os.access(file, os.R_OK)]
    if missing:
        files = ", ".join(map(str, missing))
        return failed("policy", f"[values] key_files: {files} cannot be read", "create the files")
    if text is None:
        return ok("policy", "there is no dagster-ray.toml, so the default rules apply")
    return ok("policy", "valid")


def choose_backend(subject: Subject) -> Iterator[Check]:
    """Finds the backend of the run launcher, with the arguments of the command."""
    options, instance = subject.options, subject.instance
    config = BackendConfig()
    try:
        launcher = None if instance is None else instance.run_launcher
    except Exception as error:
        remedy = (
            "correct `run_launcher` in dagster.yaml; `dagster-ray explain launcher` lists its keys"
        )
        yield failed("launcher", problem(error), remedy)
        launcher = None
    if isinstance(launcher, RayRunLauncher):
        yield ok("launcher", "RayRunLauncher")
        config, subject.run_options = launcher.backend.config, launcher.run_options
    elif launcher is not None:
        remedy = (
            "configure RayRunLauncher as `run_launcher` in dagster.yaml, unless only the steps of "
            "runs use Ray"
        )
        yield warning("launcher", f"{type(launcher).__name__} does not use Ray", remedy)
    if options.address is not None:
        for variable in _ADDRESS_VARIABLES:
            os.environ.pop(variable, None)
    given = {"address": options.address, "backend": options.backend}
    changes = {name: value for name, value in given.items() if value is not None}
    fields = {**config.model_dump(), **changes}
    if options.backend is not None and options.backend != config.backend:
        # They belong to the launcher's backend.
        for name in ("backend_config", "backend_sha256", "backend_grants"):
            fields[name] = None
        subject.run_options = {}
    try:
        backend = Backend(
            BackendConfig.validated(**fields), policy_root=subject.root, is_checked=True
        )
        name, digest, exports = backend.identity()
    except DagsterRayError as error:
        yield failed(
            "component", str(error), "correct `backend`, or use a file that this version can load"
        )
        return
    subject.backend = backend
    yield ok(
        "component",
        f"{name}, sha256 {digest[:12]}…, exports {', '.join(exports)}",
        component=name,
        digest=digest,
        exports=exports,
    )


def problem(error: BaseException) -> str:
    """Returns the message of an exception, in one line, with the message of its cause."""
    parts = [str(one).strip() or type(one).__name__ for one in (error, error.__cause__) if one]
    return ": ".join(" ".join(part.split()) for part in parts)


__all__ = ["Options", "Subject", "check_policy", "choose_backend", "open_instance", "problem"]
