"""Which Ray a process talks to."""

import os

from dagster_ray.errors import InvalidConfigError, UnavailableError

# The order is Ray's own: inside a Ray job RAY_ADDRESS names that job's cluster, and it must win
# over an address that was written for the process that submitted the job.
_ENVIRONMENT = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")

_FORMS = "http(s)://host:8265, ray://host:10001, host:6379 or auto"


def known_address(address: str | None) -> tuple[str, str] | None:
    """The address that counts and where it was written, or none where nobody named one."""
    for variable in _ENVIRONMENT:
        if os.environ.get(variable):
            return os.environ[variable], variable
    return (address, "address") if address else None


def dashboard_url(address: str, origin: str) -> str:
    """The URL of the dashboard, which serves the Jobs API, for any form of address."""
    scheme, separator, rest = address.partition("://")
    if separator and scheme.lower() in ("http", "https"):
        if not rest:
            raise _invalid(address, origin, "has no host")
        return address.rstrip("/")
    if separator and scheme != "ray":
        raise _invalid(address, origin, f"has the scheme {scheme!r}, which Ray does not serve")
    return _ask_ray(address, origin)


def _ask_ray(address: str, origin: str) -> str:
    """Only Ray itself knows which dashboard belongs to a GCS or Ray Client address."""
    try:
        from ray.dashboard.utils import (
            ray_address_to_api_server_url,
            ray_client_address_to_api_server_url,
        )
    except ImportError as error:
        raise _invalid(
            address,
            origin,
            "can only be resolved by Ray's own Python package, which is not installed here",
            "install ray[default], or write the dashboard's URL (http://host:8265)",
        ) from error
    ask = (
        ray_client_address_to_api_server_url
        if address.startswith("ray://")
        else ray_address_to_api_server_url
    )
    try:
        return ask(address).rstrip("/")
    except Exception as error:
        # Ray raises whatever its transports raise.
        raise UnavailableError(
            f"{origin} {address!r}: Ray could not be asked for its dashboard there: {error}"
        ) from error


def _invalid(address: str, origin: str, problem: str, hint: str | None = None) -> Exception:
    hint = hint or f"write {_FORMS}"
    return InvalidConfigError(
        f"{origin} {address!r} {problem}; {hint}",
        fields=[{"path": origin, "problem": f"{address!r} {problem}", "hint": hint}],
    )
