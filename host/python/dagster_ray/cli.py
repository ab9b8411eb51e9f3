"""The command ``dagster-ray``."""

import signal
import sys

from dagster_ray import _installation


def main() -> int:
    """Runs the command of this process's arguments, and returns its exit code."""
    try:
        _installation.check()
    except ImportError as error:
        if sys.argv[1:2] == ["doctor"] and "--json" in sys.argv:
            sys.stdout.write(_first_check(str(error)) + "\n")
            return 1
        sys.exit(f"error: {error}")
    from dagster_ray import _native, programs

    # Handle SIGTERM like Ctrl-C, so that programs of a component are stopped first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return _native.cli(
        ["dagster-ray", *sys.argv[1:]],
        components=f"{_installation.PACKAGE}/components",
        programs=programs.known(),
    )


def _first_check(problem: str) -> str:
    """Returns the document of `dagster-ray doctor` where no other module can be imported."""
    # The other commands do not need it.
    import json

    message, _, remedy = problem.partition("; ")
    check = {"name": "packages", "outcome": "failed", "message": message, "remedy": remedy}
    return json.dumps({"checks": [{**check, "details": {}}]}, indent=2)
