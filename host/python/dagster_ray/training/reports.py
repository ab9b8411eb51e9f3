"""Reports the metrics of a training run to Dagster, while it runs and at its end."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from dagster_pipes import PipesContext

from dagster_ray.training import observations
from dagster_ray.training.table import markdown, numbers

if TYPE_CHECKING:
    from typing_extensions import Self


class TrainingReports:
    """Reports the metrics of a script's asset through Dagster Pipes.

    Each report is a log line and an observation of the asset, whose numbers Dagster plots while the
    script runs: at most one in `seconds`, because each is an event in Dagster's database. At the
    end, the asset is materialized with the last numbers and a table of all reports. Use it as a
    context manager within `open_dagster_pipes`:

        with open_dagster_pipes() as pipes, TrainingReports(pipes) as reports:
            for epoch in range(10):
                reports.report({"loss": train(epoch)}, step=epoch)

    With Ray Tune and Ray Train, pass `tune_callback` and `train_callback` to the `RunConfig`.
    """

    def __init__(
        self, pipes: PipesContext, *, asset_key: str | None = None, seconds: float = 1.0
    ) -> None:
        """`asset_key` is necessary if the step has several assets."""
        self._pipes = pipes
        if asset_key is None and pipes.is_asset_step:
            asset_key = pipes.asset_key
        self._asset_key = asset_key
        self._seconds = seconds
        self._last = float("-inf")
        # The report that was not sent yet, because another was sent just before.
        self._pending: dict[str, float] | None = None
        self._rows: list[dict[str, object]] = []
        self._final: dict[str, float] = {}
        self._open = ExitStack()

    def report(
        self,
        metrics: Mapping[str, object],
        *,
        step: int | None = None,
        plotted: Mapping[str, object] | None = None,
        row: Mapping[str, object] | None = None,
    ) -> None:
        """Reports metrics. Values that are not finite numbers are ignored.

        `plotted` replaces the metrics in the plot, and `row` those in the table.
        """
        known = numbers(metrics)
        shown = known if plotted is None else numbers(plotted)
        first: dict[str, object] = {} if step is None else {"step": step}
        self._rows.append({**first, **(known if row is None else row)})
        self._final.update(shown)
        self._pending = {**numbers(first), **shown}
        if time.monotonic() - self._last >= self._seconds:
            self._send()

    def tune_callback(
        self, *, metric: str | None = None, mode: Literal["min", "max"] = "min"
    ) -> Any:
        """Returns a callback for `ray.tune.RunConfig`.

        With `metric`, Dagster plots its best value so far. Otherwise it plots the numbers of each
        result. The table has the last result of each trial, with its parameters.
        """
        from dagster_ray.training.tune import callback

        return callback(self, metric, mode)

    def train_callback(self) -> Any:
        """Returns a callback for `ray.train.RunConfig`, with the metrics of the worker of rank 0.

        It needs Ray Train V2, whose controller is an actor. A thread of this process receives its
        reports, until the context of this object ends.
        """
        from dagster_ray.training.train import callback

        return self._open.enter_context(callback(self))

    def set_rows(self, rows: list[dict[str, object]]) -> None:
        """Replaces the rows of the table."""
        self._rows = rows

    def __enter__(self) -> "Self":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Receives what callbacks have sent.
        self._open.close()
        if self._pending is not None:
            self._send()
        if error is None and self._asset_key is not None and self._rows:
            table: Any = {"raw_value": markdown(self._rows), "type": "md"}
            floats: dict[str, Any] = {
                name: {"raw_value": value, "type": "float"} for name, value in self._final.items()
            }
            self._pipes.report_asset_materialization(
                asset_key=self._asset_key, metadata={**floats, "training": table}
            )

    def _send(self) -> None:
        metrics, self._pending = self._pending or {}, None
        self._last = time.monotonic()
        self._pipes.log.info(", ".join(f"{name} {value:.6g}" for name, value in metrics.items()))
        if self._asset_key is not None:
            self._pipes.report_custom_message(observations.message(self._asset_key, metrics))


__all__ = ["TrainingReports"]
