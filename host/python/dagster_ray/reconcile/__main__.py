"""The program behind the command ``dagster-ray reconcile``, which checks the arguments first."""

import argparse
import json
import sys

import dagster as dg

from dagster_ray.errors import DagsterRayError
from dagster_ray.reconcile.launcher_backend import launcher_backend
from dagster_ray.reconcile.reconciliation import (
    ENDED_GRACE_SECONDS,
    describe,
    reconcile,
)


def main() -> int:
    """Reconciles, and prints one line for each leftover, or a JSON document."""
    parser = argparse.ArgumentParser("dagster-ray reconcile")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--grace", type=int, default=ENDED_GRACE_SECONDS)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    dry_run: bool = arguments.dry_run
    try:
        with dg.DagsterInstance.get() as instance:
            backend = launcher_backend(instance)
            grace: int = arguments.grace
            found = reconcile(instance, backend, dry_run=dry_run, ended_grace_seconds=grace)
    except (DagsterRayError, dg.DagsterError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    if arguments.json:
        sys.stdout.write(json.dumps({"dry_run": dry_run, "leftovers": found}) + "\n")
    else:
        lines = [describe(leftover) for leftover in found] or ["Nothing has outlived its run."]
        sys.stdout.write("\n".join(lines) + "\n")
    return 1 if any(leftover["outcome"] == "failed" for leftover in found) else 0


if __name__ == "__main__":
    sys.exit(main())
