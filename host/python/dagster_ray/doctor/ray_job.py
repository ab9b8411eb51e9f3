"""Runs a small Ray job as a run worker would run, and compares what it reports."""

import json
import platform
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from dagster_ray import _library, _version
from dagster_ray.backend import Backend
from dagster_ray.contract import ClusterClient, JobStatus, LauncherClient, RunRef, RunSpec
from dagster_ray.dagster_internals import serialize_value
from dagster_ray.default_namespace import worker_namespace
from dagster_ray.deployment import deployment_id
from dagster_ray.doctor.check import Check, failed, not_checked, ok, warning
from dagster_ray.doctor.installation import DISTRIBUTION, check_versions
from dagster_ray.doctor.subject import Subject
from dagster_ray.errors import DagsterRayError, NotFoundError, UnsupportedError
from dagster_ray.instance_policy import worker_environment
from dagster_ray.specs import attributes, local_directories, resolved

_library.register()

_MARKER = "DAGSTER_RAY_DOCTOR "
_JOB_SECONDS = 120.0
_CLUSTER_SECONDS = 600.0
_POLL_SECONDS = 0.5
# The text of the program travels with its argument, in the environment.
_ENTRYPOINT = "import json,sys;exec(json.loads(sys.argv[1])['program'])"


def check_job(subject: Subject, backend: Backend) -> Iterator[Check]:
    """Submits the job, and checks versions and Dagster's storage on Ray's side."""
    options = subject.options
    if not options.submit:
        yield not_checked("job", "no job was submitted (--no-job)")
        return
    if subject.is_on_kubernetes and not options.start_cluster:
        yield not_checked(
            "job",
            "versions in the image, and Dagster's storage as a pod sees it: it needs a Ray cluster",
            "--start-cluster creates one for the check and deletes it",
        )
        return
    default = _CLUSTER_SECONDS if options.start_cluster else _JOB_SECONDS
    limit = default if options.timeout is None else options.timeout
    try:
        status, output = _run(subject, backend, limit)
    except UnsupportedError as error:
        yield not_checked("job", str(error))
        return
    except DagsterRayError as error:
        yield failed(
            "job", str(error), "correct the run launcher's configuration, or see the error"
        )
        return
    reports = _reports(output)
    if not reports:
        yield _job_problem(status, output, limit)
        return
    yield ok("job", f"a Ray job ran on {reports['host']}", **reports)
    yield from _compared(reports)
    yield _storage(subject, status, reports, limit)


def _run(subject: Subject, backend: Backend, limit: float) -> tuple[JobStatus, str]:
    """Runs the job, and returns its last status and its output."""
    launcher = LauncherClient(backend)
    spec, directories = _spec(subject)
    ref = launcher.launch(spec, directories=directories)
    try:
        deadline = time.monotonic() + limit
        while True:
            [status] = launcher.check([ref])
            if status["ended"] or time.monotonic() > deadline:
                break
            time.sleep(_POLL_SECONDS)
        return status, launcher.debug_info(ref)
    finally:
        _remove(backend, launcher, ref)


def _spec(subject: Subject) -> tuple[RunSpec, set[str]]:
    """Returns the spec of a run whose worker is the doctor's program."""
    instance = subject.instance
    options = resolved(subject.run_options)
    # The operator may have configured that only some runs use Ray.
    options["enabled"] = True
    environment = worker_namespace()
    storage_id, ref = "", None
    if instance is not None:
        environment |= worker_environment(instance)
        storage: Any = instance.run_storage
        read = getattr(storage, "get_run_storage_id", None)
        storage_id, ref = "" if read is None else str(read()), serialize_value(instance.get_ref())
    program = Path(__file__).with_name("on_ray.py").read_text()
    given = {"program": program, "instance": ref, "storage_id": storage_id}
    spec: RunSpec = {
        "deployment": deployment_id(instance),
        "run_id": str(uuid.uuid4()),
        "attempt": 0,
        "job_name": "dagster-ray-doctor",
        "code_location": None,
        "command": {
            "argv": ["python", "-c", _ENTRYPOINT],
            "payload": json.dumps(given),
            "env": attributes(environment),
        },
        "tags": [],
        "options": json.dumps(options),
    }
    return spec, local_directories(options.get("runtime_env"))


def _remove(backend: Backend, launcher: LauncherClient, ref: RunRef) -> None:
    """Stops the job, and removes the RayJob. What remains is removed by `dagster-ray reconcile`."""
    try:
        launcher.terminate(ref)
        details = json.loads(ref["job"]["details"] or "{}")
        if "namespace" not in details:
            return
        clusters = ClusterClient(backend)
        query = clusters.list_({"namespace": details["namespace"], "labels": [], "kind": "RayJob"})
        for found in query:
            if found["cluster"]["name"] == details["name"]:
                clusters.delete(found["cluster"])
    except (NotFoundError, UnsupportedError):
        return
    except DagsterRayError:
        # The checks have their results; `dagster-ray reconcile` lists what is left.
        return


def _reports(output: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for line in output.splitlines():
        _, marker, text = line.partition(_MARKER)
        if marker:
            try:
                found |= cast("dict[str, Any]", json.loads(text))
            except ValueError:
                continue
    return found


def _job_problem(status: JobStatus, output: str, limit: float) -> Check:
    lines = [line for line in output.splitlines() if line.strip()][-5:]
    message = status["message"] or "Ray reported no message"
    text = f"the job {status['state']}: {message}"
    if not status["ended"]:
        text = f"the job is {status['state']} after {limit:g} s: {message}"
        remedy = "free resources for it, or wait longer with --timeout"
        return failed("job", text, remedy, output=lines)
    remedy = "the job needs `python` on the PATH of Ray's jobs, and a runtime_env that can be made"
    return failed("job", "\n".join([text, *lines]), remedy, output=lines)


def _compared(reports: dict[str, Any]) -> Iterator[Check]:
    """Compares the versions on both sides."""
    versions: dict[str, str | None] = reports["versions"]
    if versions["dagster-ray"] and versions[DISTRIBUTION]:
        yield failed(
            "packages on Ray",
            "dagster-ray and dagster-ray-wasm are both installed on Ray's side",
            "in Ray's environment, run `pip uninstall -y dagster-ray dagster-ray-wasm && "
            "pip install dagster-ray-wasm`",
        )
    for package in ("dagster", DISTRIBUTION, "ray"):
        if versions[package] is None:
            yield failed(
                f"{package} on Ray",
                f"{package} is not installed where Ray runs jobs",
                f"install {package} in the environment of Ray's jobs, or name it in "
                "`runtime_env: {pip: […]}`",
            )
    here = {
        check.name.replace(" package", ""): check.details.get("version")
        for check in check_versions()
    }
    here |= {DISTRIBUTION: _version.__version__, "python": platform.python_version()}
    differing: list[str] = []
    for package, there in {**versions, "python": str(reports["python"])}.items():
        own = here.get(package)
        if (
            there is not None
            and own is not None
            and _release(package, there) != _release(package, str(own))
        ):
            differing.append(f"{package} {own} here and {there} on Ray")
    if differing:
        remedy = (
            "install the same versions on both sides: the daemon, code locations and workers "
            "exchange serialized objects"
        )
        yield warning("versions", "; ".join(differing), remedy)
    else:
        yield ok("versions", "the same on both sides")
    if reports["program"] is None and versions["dagster"] is not None:
        yield failed(
            "dagster on Ray",
            "there is no program `dagster` on the PATH of Ray's jobs",
            "put the `bin` folder of the environment with Dagster on the PATH of Ray's processes",
        )


def _release(package: str, version: str) -> str:
    """Returns the part of a version that must be equal on both sides."""
    return ".".join(version.split(".")[:2]) if package == "python" else version


def _storage(subject: Subject, status: JobStatus, reports: dict[str, Any], limit: float) -> Check:
    if subject.instance is None:
        return not_checked("storage", "there is no Dagster instance (DAGSTER_HOME)")
    if "storage" not in reports:
        if status["ended"]:
            return not_checked("storage", "Dagster or dagster-ray-wasm is missing on Ray's side")
        remedy = (
            "make the database reachable from Ray's nodes, and name its host as they can resolve it"
        )
        return failed("storage", f"opening it from Ray has taken more than {limit:g} s", remedy)
    found: str | None = reports["storage"]
    if found is None:
        return ok("storage", "the job opened the storage of this instance")
    remedy = (
        "configure a storage that Ray's nodes can reach, such as PostgreSQL, and pass variables "
        "that dagster.yaml names with `env_vars`"
    )
    return failed("storage", f"from {reports['host']}: {found}", remedy)


__all__ = ["check_job"]
