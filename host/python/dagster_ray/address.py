"""Finds the Ray that a process connects to."""

import os

from dagster_ray.errors import InvalidConfigError, UnavailableError

# The order is Ray's. Inside a Ray job RAY_ADDRESS names that job's cluster. It must take precedence
# over an address that was configured for the process that submitted the job.
_ENVIRONMENT = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")

# A Ray Client server refuses some connections that it accepts a moment later.
_CLIENT_TRIES = 2

# Ray's default ports.
DASHBOARD_PORT = 8265
CLIENT_PORT = 10001

_FORMS = f"http(s)://host:{DASHBOARD_PORT}, ray://host:{CLIENT_PORT}, host:6379 or auto"


def known_address(address: str | None) -> tuple[str, str] | None:
    """Returns the effective address and the name of its source, or `None` without an address."""
    for variable in _ENVIRONMENT:
        if os.environ.get(variable):
            return os.environ[variable], variable
    return (address, "address") if address else None


def dashboard_url(address: str, origin: str) -> str:
    """Returns the URL of the dashboard, which serves the Jobs API, for any form of address."""
    scheme, separator, rest = address.partition("://")
    if separator and scheme.lower() in ("http", "https"):
        if not rest:
            raise _invalid(address, origin, "has no host")
        return address.rstrip("/")
    if separator and scheme != "ray":
        raise _invalid(address, origin, f"has the scheme {scheme!r}, which Ray does not support")
    return _resolve_with_ray(address, origin)


def ingress_url(address: str) -> str:
    """Returns the URL of an ingress in front of dashboards. Other forms of address are refused."""
    if not address.lower().startswith(("http://", "https://")):
        hint = "write the URL of the dashboard, such as https://ray.example.org/dashboard"
        raise _invalid(address, "address", "is not a URL", hint)
    return dashboard_url(address, "address")


def _resolve_with_ray(address: str, origin: str) -> str:
    """Asks Ray's Python package for the dashboard of a GCS or Ray Client address."""
    try:
        from ray.dashboard.utils import (
            ray_address_to_api_server_url,
            ray_client_address_to_api_server_url,
        )
    except ImportError as error:
        raise _invalid(
            address,
            origin,
            "can only be resolved by Ray's Python package, which is not installed here",
            f"install ray[default], or write the dashboard's URL (http://host:{DASHBOARD_PORT})",
        ) from error
    is_client = address.startswith("ray://")
    resolve = ray_client_address_to_api_server_url if is_client else ray_address_to_api_server_url
    tries = _CLIENT_TRIES if is_client else 1
    while True:
        tries -= 1
        try:
            return resolve(address).rstrip("/")
        except Exception as error:
            # Ray passes on the exceptions of its transports.
            if tries == 0:
                raise UnavailableError(
                    f"{origin} {address!r}: Ray did not return the dashboard's URL: {error}"
                ) from error


def _invalid(address: str, origin: str, problem: str, hint: str | None = None) -> Exception:
    hint = hint or f"write {_FORMS}"
    return InvalidConfigError(
        f"{origin} {address!r} {problem}; {hint}",
        fields=[{"path": origin, "problem": f"{address!r} {problem}", "hint": hint}],
    )
