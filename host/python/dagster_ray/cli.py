"""The command ``dagster-ray``."""

import signal
import sys

from dagster_ray import _installation


def main() -> int:
    """Runs the command of this process's arguments, and returns its exit code."""
    try:
        _installation.check()
    except ImportError as error:
        sys.exit(f"error: {error}")
    from dagster_ray import _native, programs

    # Handle SIGTERM like Ctrl-C, so that programs of a component are stopped first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return _native.cli(
        ["dagster-ray", *sys.argv[1:]],
        components=f"{_installation.PACKAGE}/components",
        programs=programs.known(),
    )
