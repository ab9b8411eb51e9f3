"""The command ``dagster-ray``."""

import signal
import sys

from dagster_ray import _installation


def main() -> int:
    """Runs the command that the process was called with, and returns its exit code."""
    try:
        _installation.check()
    except ImportError as error:
        sys.exit(f"error: {error}")
    from dagster_ray import _native

    # SIGTERM ends the command as Ctrl-C does: what a component has started is stopped first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return _native.cli(
        ["dagster-ray", *sys.argv[1:]],
        components=f"{_installation.PACKAGE}/components",
        # Not those on the PATH: they may belong to another environment.
        programs={
            "python": [sys.executable],
            "ray": [sys.executable, "-m", "ray.scripts.scripts"],
        },
    )
