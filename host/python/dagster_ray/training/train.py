"""The callback for Ray Train V2. It runs in Train's controller, which is an actor."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dagster_ray.errors import UnsupportedError

if TYPE_CHECKING:
    from dagster_ray.training.reports import TrainingReports

_POLL_SECONDS = 0.5


@contextmanager
def callback(reports: "TrainingReports") -> Generator[Any]:
    """Returns a `ray.train.UserCallback` whose reports this process receives in the context."""
    from ray import train
    from ray.util import queue

    user_callback: Any = getattr(train, "UserCallback", None)
    if user_callback is None:
        raise UnsupportedError(
            "train_callback: this Ray has no `ray.train.UserCallback`; install a Ray with Train "
            "V2, and leave RAY_TRAIN_V2_ENABLED unset"
        )
    # The annotations of the queue are incomplete.
    module: Any = queue
    sent: Any = module.Queue(actor_options={"num_cpus": 0})

    class ReportsMetrics(user_callback):
        def after_report(self, run_context: Any, metrics: Any, checkpoint: Any) -> None:
            sent.put_nowait(metrics[0])

    ended = threading.Event()
    thread = threading.Thread(target=_receive, args=(reports, sent, module.Empty, ended))
    thread.start()
    try:
        yield ReportsMetrics()
    finally:
        ended.set()
        thread.join()
        sent.shutdown(force=True)


def _receive(
    reports: "TrainingReports", sent: Any, empty: type[Exception], ended: threading.Event
) -> None:
    """Passes on what the controller has sent, until the context has ended and nothing is left."""
    step = 0
    while True:
        # Read before the queue: nothing is put after the training has ended.
        last = ended.is_set()
        try:
            metrics = sent.get(timeout=_POLL_SECONDS)
        except empty:
            if last:
                return
            continue
        step += 1
        reports.report(metrics, step=step)


__all__ = ["callback"]
