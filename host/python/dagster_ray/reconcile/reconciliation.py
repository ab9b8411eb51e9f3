"""Tells a component what Dagster knows, so that it removes what has outlived its run."""

import os

import dagster as dg

from dagster_ray import _library
from dagster_ray.backend import Backend
from dagster_ray.configs import DAGSTER_RAY_NAMESPACES_ENV_VAR
from dagster_ray.contract import Leftover, ReconcilerClient, Reconciliation, Write
from dagster_ray.deployment import deployment_id
from dagster_ray.reconcile.step_ends import step_ends
from dagster_ray.run_life import live_runs, run_lives

_library.register()

# A run worker that is stopped has 60 s to clean up, after the run is marked as ended.
ENDED_GRACE_SECONDS = 120
# A run that Dagster does not know was probably deleted, but its absence does not prove that. As for
# the values of such a run (`failed_run_seconds` of `RayIOManager`).
UNKNOWN_GRACE_SECONDS = 24 * 60 * 60


def reconcile(
    instance: dg.DagsterInstance,
    backend: Backend,
    *,
    dry_run: bool = False,
    ended_grace_seconds: int = ENDED_GRACE_SECONDS,
    unknown_grace_seconds: int = UNKNOWN_GRACE_SECONDS,
    write: Write | None = None,
) -> list[Leftover]:
    """Stops and removes everything of this deployment whose run, step attempt or holder is over.

    Returns what was removed, what could not be removed, what the deployment does not own, and which
    clusters of its pools stay. With `dry_run`, nothing is changed.
    """
    client = ReconcilerClient(backend)
    rule: Reconciliation = {
        "deployment": deployment_id(instance),
        "namespaces": _namespaces(),
        "runs": [],
        "ended_steps": [],
        "ended_grace_s": 0,
        "unknown_grace_s": 0,
        "dry_run": True,
    }
    # As no run is known, this returns everything that the deployment owns. An object that is
    # created later belongs to a run that is unknown in the second call, so its grace period holds.
    found = client.reconcile(rule, write=write)
    named = {one["run_id"] for one in found if one["outcome"] == "would-remove"}
    run_ids = {run_id for run_id in named if run_id}
    live = live_runs(instance)
    live_ids = {run["run_id"] for run in live}
    # A shared cluster names only the run that created it, and its holders may be other live runs.
    # The live runs are read first: a run that ends in between counts as live.
    runs = [*live, *run_lives(instance, run_ids - live_ids)]
    decided: Reconciliation = {
        **rule,
        "runs": runs,
        "ended_steps": [
            end for run_id in sorted(run_ids & live_ids) for end in step_ends(instance, run_id)
        ],
        "ended_grace_s": ended_grace_seconds,
        "unknown_grace_s": unknown_grace_seconds,
        "dry_run": dry_run,
    }
    return client.reconcile(decided, write=write)


def reconcile_run(
    instance: dg.DagsterInstance, backend: Backend, run_id: str, *, write: Write | None = None
) -> list[Leftover]:
    """Stops what a run whose worker is over has left. Everything of other runs is left alone.

    While the run is live, only what its dead step workers left is stopped.
    """
    rule: Reconciliation = {
        "deployment": deployment_id(instance),
        "namespaces": _namespaces(),
        "runs": run_lives(instance, [run_id]),
        "ended_steps": [],
        "ended_grace_s": 0,
        "unknown_grace_s": None,
        "dry_run": False,
    }
    found = ReconcilerClient(backend).reconcile(rule, write=write)
    return [one for one in found if one["outcome"] != "not-owned"]


def describe(leftover: Leftover) -> str:
    """Returns a sentence about a leftover."""
    namespace, run_id, step = (leftover.get(key) for key in ("namespace", "run_id", "step_key"))
    problem = leftover.get("problem")
    name = f"{namespace}/{leftover['name']}" if namespace else leftover["name"]
    owner = (f"run {run_id}" if run_id else "no run") + (f", step {step}" if step else "")
    verb = {
        "removed": "Removed",
        "would-remove": "Would remove",
        "failed": "Could not remove",
        "not-owned": "Left alone",
        "kept": "Kept",
    }[leftover["outcome"]]
    text = f"{verb}: {leftover['kind']} {name} ({owner}): {leftover['reason']}"
    return f"{text}: {problem}" if problem else f"{text}."


def _namespaces() -> list[str]:
    names = os.environ.get(DAGSTER_RAY_NAMESPACES_ENV_VAR, "").split(",")
    return list(dict.fromkeys(name.strip() for name in names if name.strip()))


__all__ = [
    "ENDED_GRACE_SECONDS",
    "UNKNOWN_GRACE_SECONDS",
    "describe",
    "reconcile",
    "reconcile_run",
]
