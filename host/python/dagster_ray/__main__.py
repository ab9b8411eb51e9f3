"""Runs the command ``dagster-ray`` as ``python -m dagster_ray``."""

import sys

from dagster_ray.cli import main

if __name__ == "__main__":
    sys.exit(main())
