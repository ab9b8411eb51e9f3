"""The cells of scripts and of values that other tests show, or that cannot happen."""

from cells import Cells

_D = "tests/dagster/"
_SUBMISSION = "components/submission/src/"
_WITHOUT_RAY = "tests/faults/test_cells.py::test_cell_without_ray[run+{}]"

DATA = Cells()

# Scripts. Following a script includes the wait for its end.
_SCRIPT = "tests/faults/test_cells.py::test_cell_without_ray[{}+{}]"
for _fault in ("raylet-9", "session"):
    DATA.shown(
        ("pipes-await",),
        _fault,
        "The process ends with an error that says so, as when it follows the output.",
        _SCRIPT.format("pipes-follow", _fault),
    )
for _operation in ("pipes-follow", "pipes-await", "pipes-terminate"):
    DATA.shown(
        (_operation,),
        "gcs-restart",
        "Without Redis a restarted GCS is a new session, as in the column for that.",
        _SCRIPT.format(_operation.replace("await", "follow"), "session"),
    )
for _fault in ("gcs-restart", "session"):
    DATA.shown(
        ("pipes-launch",),
        _fault,
        "A script that the new head does not have is not missing at once.",
        _SUBMISSION + "session.rs::a_missing_job_is_believed_of_its_own_session_only",
    )
DATA.shown(
    ("pipes-launch", "pipes-await", "pipes-terminate"),
    "sigterm",
    "Dagster turns both signals into one interrupt, which stops the script at any moment.",
    _D + "test_pipes_faults.py::test_an_interrupt_at_any_moment_stops_the_job",
)

# Values. A step ends with its Ray.
for _fault in ("raylet-9", "head-9", "gcs-restart", "session"):
    DATA.impossible(
        ("value-cleanup",),
        _fault,
        "Values in Ray end with the processes that hold them. A directory needs no Ray.",
    )
for _fault in ("raylet-9", "head-9", "gcs-restart", "session"):
    DATA.shown(
        ("value-save", "value-load"),
        _fault,
        "The step that saves or loads the value ends with its Ray, as in the row of a step.",
        _WITHOUT_RAY.format("session" if _fault == "gcs-restart" else _fault),
    )

# Values and the processes that save, load and remove them.
for _fault in ("sigterm", "sigint"):
    DATA.shown(
        ("value-save",),
        _fault,
        "As after SIGKILL: the previous value stays, or the new one is complete.",
        _D + "test_values_on_ray.py::test_a_killed_writer_leaves_a_complete_value_in_the_registry",
        _D + "test_values_on_ray.py::test_a_killed_writer_leaves_the_previous_value_in_a_directory",
    )
    DATA.impossible(("value-load",), _fault, "Loading changes nothing, and a retry loads again.")
DATA.shown(
    ("value-save", "value-cleanup"),
    "clock",
    "A clock that steps moves the expiry of ended runs by as much. Values of live runs stay.",
    "components/values/src/lifetime.rs::"
    "values_expire_when_their_run_succeeds_and_later_when_it_fails_or_is_unknown",
)
DATA.shown(
    ("value-cleanup",),
    "daemon-9",
    "The values of a run that has ended are removed later.",
    "components/values/src/rules/tests.rs::"
    "deleting_expired_values_removes_those_of_ended_runs_and_keeps_assets",
)
DATA.impossible(("value-cleanup",), "disk-full", "Removing values needs no space.")
