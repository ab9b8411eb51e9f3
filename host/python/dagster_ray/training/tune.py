"""The callback for Ray Tune. It runs in the process that calls `Tuner.fit`."""

from typing import TYPE_CHECKING, Any, Literal, cast

from dagster_ray.training.table import numbers

if TYPE_CHECKING:
    from dagster_ray.training.reports import TrainingReports

# What Tune adds to each result.
_OF_TUNE = frozenset(
    {
        "date",
        "done",
        "hostname",
        "iterations_since_restore",
        "node_ip",
        "pid",
        "should_checkpoint",
        "time_since_restore",
        "time_this_iter_s",
        "time_total_s",
        "timestamp",
        "training_iteration",
    }
)


def callback(reports: "TrainingReports", metric: str | None, mode: Literal["min", "max"]) -> Any:
    """Returns a `ray.tune.Callback` that reports the results of trials."""
    from ray import tune

    # The annotations of Ray's callbacks are incomplete.
    base: Any = tune.Callback
    better = min if mode == "min" else max
    rows: dict[str, dict[str, object]] = {}
    best: dict[str, float] = {}
    ended: set[str] = set()

    def on_result(trial: Any, result: dict[str, Any]) -> None:
        found = numbers(
            {name: result[name] for name in result if name not in {*_OF_TUNE, "config"}}
        )
        row = {"trial": trial.trial_id, **_parameters(trial), **found, "status": str(trial.status)}
        rows[trial.trial_id] = cast("dict[str, object]", row)
        plotted: dict[str, float] = found
        if metric is not None and metric in found:
            name = f"best {metric}"
            best[name] = better(best.get(name, found[metric]), found[metric])
        if metric is not None:
            plotted = {**best, "ended trials": float(len(ended))}
        reports.report(found, plotted=plotted, row=row)

    def on_end(trial: Any, status: str) -> None:
        ended.add(trial.trial_id)
        row = rows.setdefault(trial.trial_id, {"trial": trial.trial_id, **_parameters(trial)})
        row["status"] = status
        if metric is not None:
            reports.report({}, plotted={**best, "ended trials": float(len(ended))})
        reports.set_rows(list(rows.values()))

    class ReportsTrials(base):
        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **_: Any):
            on_result(trial, result)

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any):
            on_end(trial, "TERMINATED")

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any):
            on_end(trial, "ERROR")

        # Tune pickles its callbacks to restore an experiment, and this one has the connection.
        def __reduce__(self) -> Any:
            return base, ()

    return ReportsTrials()


def _parameters(trial: Any) -> dict[str, object]:
    """Returns the parameters of a trial, of which long ones are left out."""
    config: dict[str, object] = trial.config
    kept = {name: value for name, value in config.items() if len(str(value)) <= 40}
    return {f"config/{name}": value for name, value in kept.items()}


__all__ = ["callback"]
