"""``python -m dagster_ray``: the command ``dagster-ray``."""

import sys

from dagster_ray.cli import main

if __name__ == "__main__":
    sys.exit(main())
