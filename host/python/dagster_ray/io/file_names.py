"""The rule for names of value files."""

from dagster_ray.errors import PermissionDeniedError


def relative_name(name: str) -> str:
    """Returns a name that stays inside its directory, or raises.

    The host checks keys too. A directory does not rely on it, because it also serves code that
    does not come through the host.
    """
    if "\\" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise PermissionDeniedError(
            f"{name!r} is not a name inside the directory of values: it has an empty, `.` or `..` "
            "segment, or a backslash; write segments separated by `/`"
        )
    return name


__all__ = ["relative_name"]
