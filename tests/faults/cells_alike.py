"""The cells that the test of another cell shows too, and those that have no effect by nature."""

from cells import Cells

_D = "tests/dagster/"
_SUBMISSION = "components/submission/src/"
_KUBERNETES = "components/kuberay/src/kubernetes/mod.rs::"
_SHARE = "components/kuberay/src/cluster/share.rs::"
_EXPIRE = "components/kuberay/src/cluster/expire.rs::"
_CELL = "tests/faults/test_cells.py::test_cell[{}+{}]"
_WITHOUT_RAY = "tests/faults/test_cells.py::test_cell_without_ray[run+{}]"
_ORPHANS = (
    _D + "test_kuberay_orphans.py::test_cleanup_deletes_exactly_the_clusters_of_killed_processes"
)
_RESTARTS = (
    _D + "test_kuberay_runs.py::test_a_run_survives_restarts_of_the_api_server_and_the_operator"
)
_OF_KILLED_STEP = (
    _D + "test_reconcile.py::test_the_script_of_a_killed_step_worker_ends_before_the_steps_retry"
)

_CLUSTERS = ("cluster-create", "cluster-wait", "cluster-use", "cluster-share", "cluster-delete")
_PIPES = ("pipes-launch", "pipes-follow", "pipes-await", "pipes-terminate")
_VALUES = ("value-save", "value-load", "value-cleanup")
_RUNS = ("launch", "run", "resume", "terminate", "health")
_STEPS = ("step-launch", "step")
_ON_RAY = (*_RUNS, *_STEPS, *_PIPES)
# Without half and lost responses, which the test of the client does not contain.
_REQUEST_FAULTS = ("partition", "loss", "reset", "429", "5xx")

ALIKE = Cells()


# One client sends the requests of all operations to the API server.
_REPEATED = _KUBERNETES + "requests_to_a_restarting_api_server_are_retried"
for _fault in _REQUEST_FAULTS:
    ALIKE.shown(_CLUSTERS, _fault, "A request to the API server that fails is repeated.", _REPEATED)
ALIKE.shown(
    (*_ON_RAY, *_CLUSTERS),
    "api-server",
    "A request to the API server that fails is repeated, whichever operation sends it.",
    _REPEATED,
)
ALIKE.shown(
    (*_ON_RAY, *_CLUSTERS),
    "etcd-slow",
    "Only the API server uses etcd. Its requests then fail, and are repeated.",
    _REPEATED,
)
ALIKE.shown(
    ("step", "health"),
    "operator-down",
    "The same test as for a run under way: the run and its steps go on.",
    _RESTARTS,
)
ALIKE.shown(
    ("step",),
    "api-server",
    "The same test as for a run under way: the run and its steps go on.",
    _RESTARTS,
)
ALIKE.shown(
    ("cluster-share",),
    "operator-down",
    "A shared cluster is awaited as one of a step is.",
    _D
    + "test_kuberay_cluster.py::test_waiting_survives_restarts_of_the_api_server_and_the_operator",
)
ALIKE.impossible(
    ("cluster-use",), "operator-down", "A step does not contact the operator once its cluster runs."
)

ALIKE.impossible(
    ("launch", "resume", "step-launch", "pipes-launch", "cluster-create", "cluster-delete"),
    "pod-evicted",
    "It creates or deletes an object, which does not wait for a pod.",
)
ALIKE.impossible(
    ("launch", "resume", "step-launch", "pipes-launch", "cluster-create", "cluster-delete"),
    "node-gone",
    "It creates or deletes an object, which does not wait for a node.",
)
ALIKE.shown(
    ("cluster-wait", "cluster-use", "cluster-share", "cluster-delete"),
    "token",
    "All requests to the API server use the renewed token.",
    "tests/sandbox/tests/sandbox/kubernetes.rs::a_token_renewed_in_the_kubeconfig_is_used",
)
ALIKE.impossible(
    ("resume",),
    "run-worker-9",
    "The earlier worker is dead, and the next one does not exist before the resumption.",
)

ALIKE.shown(
    ("cluster-share", "cluster-delete"),
    "sigterm",
    "An interrupted run releases the cluster that its steps share.",
    _D + "test_executor_end.py::test_an_interrupted_run_releases_what_its_steps_shared",
)

# The process that uses a cluster does not matter.
ALIKE.shown(
    _CLUSTERS,
    "run-worker-9",
    "Cleanup deletes exactly the clusters of killed processes, of whichever kind.",
    _ORPHANS,
)
ALIKE.shown(
    ("cluster-delete",),
    "step-worker-9",
    "Cleanup deletes exactly the clusters of killed processes.",
    _ORPHANS,
)

# Scripts of workers that were killed.
ALIKE.shown(
    ("pipes-launch", "pipes-follow", "pipes-await", "pipes-terminate"),
    "step-worker-9",
    "The script ends before the step's next attempt starts.",
    _OF_KILLED_STEP,
)
ALIKE.shown(
    ("pipes-await", "pipes-terminate"),
    "run-worker-9",
    "The script is stopped when the run is resumed, or when it has ended.",
    _SUBMISSION
    + "reconcile/tests.rs::a_resumed_run_stops_the_scripts_of_its_earlier_workers_before_its_new_"
    "worker_starts",
    _SUBMISSION
    + "reconcile/tests.rs::a_script_whose_worker_has_ended_is_stopped_although_its_run_is_live",
)
ALIKE.shown(
    ("health",),
    "run-worker-9",
    "The same test as for a run under way: a health check finds the dead worker.",
    _CELL.format("run", "run-worker-9"),
)

# Ray without its jobs.
_NEW_SESSION = (
    _SUBMISSION + "launcher.rs::the_reference_of_a_launch_keeps_the_session_from_before_the_"
    "submission"
)
_NOT_MISSING = _SUBMISSION + "launcher.rs::a_run_whose_head_restarted_is_not_missing_at_once"
for _fault in ("gcs-restart", "session"):
    ALIKE.shown(
        ("launch", "resume"),
        _fault,
        "The reference names the earlier session, so the job does not count as missing too early.",
        _NEW_SESSION,
    )
    ALIKE.shown(
        ("health", "terminate"),
        _fault,
        "The job does not count as missing at once. Terminating the run reports it as missing.",
        _NOT_MISSING,
    )
for _fault in ("raylet-9", "head-9"):
    ALIKE.shown(
        ("health",),
        _fault,
        "The same test as for a run under way: its health checks decide.",
        _WITHOUT_RAY.format(_fault),
    )
ALIKE.shown(
    ("launch", "resume", "pipes-launch"),
    "head-9",
    "A submission is repeated for 30 s. Then the error says that Ray is unavailable.",
    _SUBMISSION
    + "submit.rs::submit_retries_connection_errors_and_reports_unavailable_when_they_persist",
)
ALIKE.shown(
    ("step-launch",),
    "head-9",
    "The step fails with the address.",
    _D + "test_executor.py::test_a_step_fails_with_the_address_when_ray_is_unreachable",
)
ALIKE.shown(
    ("terminate",),
    "head-9",
    "A run that cannot be stopped stays canceling, until Ray answers or Dagster ends it.",
    _D + "test_unreachable.py::test_a_run_that_cannot_be_stopped_stays_canceling",
)
ALIKE.shown(
    ("pipes-terminate",),
    "head-9",
    "The script is remembered, and stopped at the next contact with Ray.",
    _D + "test_pipes_faults.py::test_a_script_that_was_given_up_is_stopped_at_the_next_contact",
)
for _fault in ("gcs-restart", "session"):
    ALIKE.shown(
        ("step-launch",),
        _fault,
        "A step that the new head does not have is not missing at once.",
        _SUBMISSION + "session.rs::a_missing_job_is_believed_of_its_own_session_only",
    )
ALIKE.shown(
    ("pipes-follow",),
    "head-9",
    "Following gives up after the time that Ray may be unreachable.",
    _SUBMISSION + "follow.rs::follow_can_be_cancelled_and_gives_up_while_ray_is_unreachable",
)
ALIKE.shown(
    ("pipes-await",),
    "head-9",
    "Waiting gives up after the time that Ray may be unreachable, with the last error.",
    _SUBMISSION + "scripts.rs::wait_gives_up_after_the_patience_with_the_last_error",
)

# Certificates. Every call of an operation opens its connections in the same way.
for _rows, _test in (
    (("run", "resume", "terminate", "health"), "the_launcher"),
    (("step",), "the_executor"),
    (("pipes-follow", "pipes-await", "pipes-terminate"), "pipes"),
):
    ALIKE.shown(
        _rows,
        "tls",
        "Connections are made as for the launch, which refuses a certificate that is not trusted. "
        "The rotation itself is not tested.",
        _D + f"test_tls.py::test_{_test}_refuses_an_untrusted_certificate",
    )

# Tokens.
ALIKE.shown(
    ("launch", "step-launch", "resume", "terminate", "pipes-launch", "pipes-terminate"),
    "token",
    "A rejected token is an error at once, and no request is repeated with it.",
    "components/ray-jobs/src/tests.rs::only_rays_own_404_text_means_that_a_job_is_missing",
)
ALIKE.shown(
    ("pipes-await",),
    "token",
    "A rejected token counts as an outage, which the wait outlasts.",
    _SUBMISSION + "scripts.rs::wait_outlasts_an_outage_and_returns_the_true_end",
)

# Clocks.
ALIKE.impossible(
    (*_ON_RAY, "cluster-create", "cluster-wait", "cluster-use"),
    "clock",
    "Waits and limits are measured with a monotonic clock, which does not step.",
)
ALIKE.shown(
    ("cluster-share",),
    "clock",
    "Leases are measured by the API server's clock.",
    _SHARE + "a_renewal_uses_the_api_servers_time_and_removes_expired_leases",
)

# Disks.
ALIKE.shown(
    ("launch", "step-launch", "pipes-launch"),
    "disk-full",
    "A component is called although its compiled code cannot be cached.",
    "tests/faults/test_full_disk.py::test_a_component_is_called_although_its_code_cannot_be_cached",
)
ALIKE.impossible(("value-load",), "disk-full", "Loading a value writes no file.")
ALIKE.impossible(
    ("value-load",), "step-worker-9", "Loading changes nothing, and a retry loads again."
)

# Traps.
_ATTACKS = _D + "test_sandbox.py::test_each_attack_has_the_listed_outcome_before_and_after_ray_init"
ALIKE.shown(
    (*_CLUSTERS, "pipes-terminate"),
    "trap",
    "The call raises an exception, and the next call works. Each attack of the list does so.",
    _ATTACKS,
)
ALIKE.shown(
    ("run",),
    "trap",
    "Only health checks call a component. The run counts as running, and one event says so.",
    _D
    + "test_unreachable.py::"
    + "test_failed_checks_of_a_run_are_one_event_at_the_beginning_and_one_at_the_end",
)
ALIKE.shown(
    ("step",),
    "trap",
    "Only checks call a component. The step counts as running, and one event says so.",
    _D
    + "test_simulated.py::"
    + "test_checks_of_steps_that_fail_are_one_event_at_the_beginning_and_one_at_the_end",
)

# Limits of time.
ALIKE.shown(
    ("cluster-create", "cluster-share", "cluster-delete", *_VALUES),
    "timeout",
    "A call that does not return ends at its deadline, and the next call works.",
    _ATTACKS,
)
ALIKE.shown(
    ("resume", "step-launch", "pipes-launch"),
    "timeout",
    "A submission is repeated for 30 s. Then the error says that Ray is unavailable.",
    _SUBMISSION
    + "submit.rs::submit_retries_connection_errors_and_reports_unavailable_when_they_persist",
)
ALIKE["pipes-follow", "timeout"] = ALIKE["pipes-follow", "head-9"]
ALIKE["pipes-await", "timeout"] = ALIKE["pipes-await", "head-9"]
ALIKE.shown(
    ("pipes-terminate",),
    "timeout",
    "A script that does not end is reported, and stopped at the next contact with Ray.",
    _SUBMISSION + "stop.rs::a_job_that_does_not_end_is_reported_as_a_timeout",
    _D + "test_pipes_faults.py::test_a_script_that_was_given_up_is_stopped_at_the_next_contact",
)

# Other deployments.
ALIKE.shown(
    ("run", "step"),
    "second",
    "A deployment stops the steps of its own runs only.",
    _D
    + "test_reconcile.py::"
    + "test_two_deployments_stop_the_steps_of_their_killed_run_workers_and_no_others",
)
ALIKE.shown(
    ("step-launch",),
    "second",
    "A launch stops what earlier attempts left, of its own deployment only.",
    _SUBMISSION + "reconcile/tests.rs::a_later_attempt_of_a_step_stops_what_earlier_attempts_left",
)
ALIKE.shown(
    ("resume",),
    "second",
    "A resumption stops the scripts of its own run and deployment only.",
    _SUBMISSION
    + "reconcile/tests.rs::a_resumed_run_stops_the_scripts_of_its_earlier_workers_before_its_new_"
    "worker_starts",
)
ALIKE.shown(
    ("terminate",),
    "second",
    "Jobs of another deployment run on, also if they name the run.",
    _SUBMISSION
    + "reconcile/tests.rs::terminating_a_run_stops_the_jobs_that_its_killed_worker_left",
    _D
    + "test_launcher_references.py::"
    + "test_terminating_a_run_without_a_job_stops_the_steps_of_this_deployment",
)
ALIKE.shown(
    ("pipes-launch",),
    "second",
    "The script carries the id of its deployment, which users cannot set.",
    _SUBMISSION + "scripts.rs::the_session_variables_and_the_origin_override_the_users_options",
)
ALIKE.impossible(
    ("health", "pipes-follow", "pipes-await", "pipes-terminate"),
    "second",
    "It asks for one job by its id, which contains the run's id, and lists nothing.",
)

# Submissions to a Ray that cannot execute them.
ALIKE.shown(
    ("launch", "step-launch", "resume", "pipes-launch"),
    "raylet-9",
    "A submission is repeated for 30 s. A job that was accepted ends with the raylet.",
    _SUBMISSION
    + "submit.rs::submit_retries_connection_errors_and_reports_unavailable_when_they_persist",
    _WITHOUT_RAY.format("raylet-9"),
)
