"""The doctor's job where Ray is simulated: the job is a real process, and needs no Ray."""

from collections.abc import Callable

import dagster as dg
from dagster_ray.backend import Backend
from dagster_ray.configs import BackendConfig
from dagster_ray.doctor.ray_job import check_job
from dagster_ray.doctor.subject import Options, Subject
from dagster_ray.testing import SimulatedRay

Home = Callable[[dict], dg.DagsterInstance]


def test_the_job_reports_versions_and_opens_the_storage(
    home: Home, simulated_ray: SimulatedRay
) -> None:
    subject = Subject(Options(), instance=home({}))
    backend = Backend(BackendConfig(address="http://head:8265"), is_checked=True)
    found = {check.name: check for check in check_job(subject, backend)}
    outcomes = {name: check.outcome for name, check in found.items()}
    assert outcomes == {"job": "ok", "versions": "ok", "storage": "ok"}, found
