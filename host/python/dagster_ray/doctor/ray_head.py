"""Checks that a Ray cluster with an address can be reached."""

import datetime
import json
from collections.abc import Iterator

from dagster_ray import _library
from dagster_ray.backend import Backend
from dagster_ray.contract import ReconcilerClient
from dagster_ray.deployment import deployment_id
from dagster_ray.doctor.check import Check, failed, not_checked, ok, warning
from dagster_ray.doctor.subject import Subject
from dagster_ray.errors import (
    BackendError,
    DagsterRayError,
    InvalidConfigError,
    UnavailableError,
    UnsupportedError,
)

_library.register()

# Certificates of Let's Encrypt are renewed 30 days before their end.
_EXPIRY_DAYS = 14
_LOCAL = "local"
_TOKEN = (
    "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, to the token of this Ray "
    "in the daemon's environment, or set `headers`"
)


def check_certificates(backend: Backend) -> Iterator[Check]:
    """Checks the certificates of authorities with TLS, and how long they are valid."""
    for certificate in json.loads(backend.certificates()):
        authority, end = certificate["authority"], certificate["valid_until"]
        if certificate["problem"] is not None:
            remedy = (
                "set `verify` to the file of the CA that signed it, or renew the certificate; "
                "`verify: false` trusts every server"
            )
            yield failed("tls", f"{authority}: {certificate['problem']}", remedy)
        elif end is None:
            yield not_checked("tls", f"{authority}: the certificate has no readable end")
        else:
            left = datetime.datetime.fromisoformat(end.replace("Z", "+00:00")) - _now()
            text = f"{authority}: the certificate is valid until {end}"
            if left.days < _EXPIRY_DAYS:
                yield warning("tls", f"{text}, for {left.days} more days", "renew the certificate")
            else:
                yield ok("tls", text, valid_until=end)


def check_ray(subject: Subject, backend: Backend) -> Check:
    """Lists the jobs of Ray, which changes nothing and needs the address and the credentials."""
    where = _address(backend)
    try:
        found = ReconcilerClient(backend).reconcile(
            {
                "deployment": deployment_id(subject.instance),
                "namespaces": [],
                "runs": [],
                "ended_steps": [],
                "ended_grace_s": 0,
                "unknown_grace_s": None,
                "dry_run": True,
            }
        )
    except UnsupportedError as error:
        return not_checked("ray", str(error))
    except InvalidConfigError as error:
        return failed("ray", str(error), "correct the run launcher's configuration")
    except BackendError as error:
        if error.status in (401, 403):
            return failed("ray", f"{where}: {error}", _TOKEN, status=error.status)
        return failed(
            "ray", f"{where}: {error}", "check that this is the address of Ray's dashboard"
        )
    except UnavailableError as error:
        if backend.is_local:
            return not_checked(
                "ray", f"no Ray runs at {where}; the backend {_LOCAL} starts it for a run"
            )
        remedy = "start Ray, or correct `address` of the run launcher (or --address, RAY_ADDRESS)"
        return failed("ray", f"{where}: {error}", remedy)
    except DagsterRayError as error:
        return failed("ray", f"{where}: {error}", "see the error")
    return ok("ray", f"{where} answers", objects=len(found))


def _address(backend: Backend) -> str:
    try:
        return backend.url
    except DagsterRayError:
        return "Ray"


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


__all__ = ["check_certificates", "check_ray"]
