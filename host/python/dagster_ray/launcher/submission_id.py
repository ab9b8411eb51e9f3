"""The submission id of a run's Ray job."""

from dagster_ray.contract import LauncherClient, RunSpec
from dagster_ray.kuberay.backend import KubeRay


def get_job_submission_id_from_run_id(run_id: str, resume_attempt_number: int | None = None) -> str:
    """Returns the submission id that the launcher gives the Ray job of a run.

    `resume_attempt_number` counts the resumptions of the run. `None` is its first job.
    """
    spec: RunSpec = {
        "deployment": "",
        "run_id": run_id,
        "attempt": resume_attempt_number or 0,
        "job_name": "",
        "code_location": None,
        "command": {"argv": ["dagster"], "payload": None, "env": []},
        "tags": [],
        "options": '{"image": "any"}',
    }
    # Every backend names the job alike. This one needs no address of Ray to plan it.
    placement = LauncherClient(KubeRay(is_checked=True)).plan(spec)
    if placement == "local":
        raise RuntimeError(f"run {run_id}: the component plans no Ray job for it")
    return placement["job"]["job"]["submission_id"]


__all__ = ["get_job_submission_id_from_run_id"]
