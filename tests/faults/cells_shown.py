"""The cells that other tests show, and those that are impossible for a reason of their own."""

from cells import Impossible, Key, Shown

_D = "tests/dagster/"
_RUNS = _D + "test_kuberay_runs.py::"
_CLUSTER = _D + "test_kuberay_cluster.py::"
_REFUSED = _D + "test_kuberay_faults.py::"
_ORPHANS = (
    _D + "test_kuberay_orphans.py::test_cleanup_deletes_exactly_the_clusters_of_killed_processes"
)
_SIMULATED = _D + "test_simulated.py::"
_UNREACHABLE = _D + "test_unreachable.py::"
_CLEANUP = _D + "test_kuberay_jobs.py::"
_ON_RAY = _D + "test_values_on_ray.py::"
_WATCH = "components/kuberay/src/kubernetes/watch.rs::"
_SHARE = "components/kuberay/src/cluster/share.rs::"
_EXPIRE = "components/kuberay/src/cluster/expire.rs::"
_VALUES = "components/values/src/rules/tests.rs::"


def _shown(holds: str, *by: str) -> Shown:
    return Shown(holds, by)


_HEALTH = "tests/faults/test_cells.py::test_cell[health+{}]"
_ADAPTER = "components/submission/src/"
_DISK = "tests/faults/test_full_disk.py::"
_KUBERNETES = "components/kuberay/src/kubernetes/mod.rs::"
_SANDBOX = "tests/sandbox/tests/sandbox/"

_UNTRUSTED = (
    "A certificate that is not trusted is refused before anything is sent. "
    "The rotation itself is not tested."
)
_TRAP = _shown(
    "The call raises an exception, and the next call works. Each attack of the list does so.",
    _D + "test_sandbox.py::test_each_attack_has_the_listed_outcome_before_and_after_ray_init",
)
_API_REQUESTS = _shown(
    "A request that the API server does not answer is repeated.",
    _KUBERNETES + "requests_to_a_restarting_api_server_are_retried",
)

SHOWN: dict[Key, Shown | Impossible] = {
    ("launch", "second"): _shown(
        "The job carries the id of its deployment, which users cannot set.",
        _D + "test_launcher.py::test_a_run_is_launched_as_one_ray_job_and_succeeds",
        "components/kuberay/src/job/create.rs::a_rayjob_of_another_deployment_is_not_adopted",
    ),
    ("launch", "local"): _shown(
        "A head that loses the race for the port is stopped, and the other one is used.",
        "components/local/src/head/tests.rs::a_head_that_lost_the_race_for_the_port_is_stopped",
        "components/local/src/head/tests.rs::a_head_is_started_once_and_awaited_if_none_responds",
    ),
    ("launch", "timeout"): _shown(
        "A launch that Ray does not accept is given up within a minute.",
        _SIMULATED + "test_a_launch_is_given_up_before_a_minute_has_passed",
    ),
    ("launch", "tls"): _shown(
        _UNTRUSTED,
        _D + "test_tls.py::test_the_launcher_refuses_an_untrusted_certificate",
    ),
    ("step-launch", "tls"): _shown(
        _UNTRUSTED,
        _D + "test_tls.py::test_the_executor_refuses_an_untrusted_certificate",
    ),
    ("pipes-launch", "tls"): _shown(
        _UNTRUSTED,
        _D + "test_tls.py::test_pipes_refuses_an_untrusted_certificate",
    ),
    ("run", "api-server"): _shown(
        "The run and its steps go on, and the run succeeds.",
        _RUNS + "test_a_run_survives_restarts_of_the_api_server_and_the_operator",
    ),
    ("run", "operator-down"): _shown(
        "The run and its steps go on, and the run succeeds.",
        _RUNS + "test_a_run_survives_restarts_of_the_api_server_and_the_operator",
    ),
    ("step", "pod-evicted"): _shown(
        "The step fails with the reason, and so does the run.",
        _RUNS + "test_a_step_whose_head_is_killed_fails_with_a_reason",
    ),
    ("step", "code-server-gone"): Impossible("A step worker loads the code itself."),
    ("step", "timeout"): _shown(
        "A step that exits silently fails when a round of checks outlasts the statuses.",
        _SIMULATED
        + "test_steps_that_exit_silently_fail_when_a_round_of_checks_outlasts_the_statuses",
    ),
    ("health", "trap"): _shown(
        "The run counts as running. One event tells the user when checks fail, one when they work.",
        _UNREACHABLE
        + "test_failed_checks_of_a_run_are_one_event_at_the_beginning_and_one_at_the_end",
    ),
    ("health", "timeout"): _shown(
        "The run counts as running until `unreachable_timeout`, and as unknown afterwards.",
        _UNREACHABLE + "test_health_is_running_until_the_unreachable_timeout",
    ),
    ("health", "dashboard-9"): _shown(
        "The same test as for a run under way.",
        "tests/faults/test_cells.py::test_cell[run+dashboard-9]",
    ),
    ("health", "daemon-9"): _shown(
        "The same test as for a run under way: the new daemon goes on with the checks.",
        "tests/faults/test_cells.py::test_cell[run+daemon-9]",
    ),
    ("health", "api-server"): _API_REQUESTS,
    ("terminate", "api-server"): _API_REQUESTS,
    ("launch", "api-server"): _shown(
        "Creating an object again after a lost response returns the existing one.",
        _KUBERNETES + "create_returns_the_existing_object_when_the_response_is_lost",
    ),
    ("terminate", "timeout"): _shown(
        "A job that does not end is reported, and the run stays canceling.",
        _ADAPTER + "stop.rs::a_job_that_does_not_end_is_reported_as_a_timeout",
        _UNREACHABLE + "test_a_run_that_cannot_be_stopped_stays_canceling",
    ),
    ("step-launch", "trap"): _TRAP,
    ("launch", "trap"): _TRAP,
    ("resume", "trap"): _TRAP,
    ("terminate", "trap"): _TRAP,
    ("pipes-launch", "trap"): _TRAP,
    ("pipes-follow", "trap"): _TRAP,
    ("pipes-await", "trap"): _TRAP,
    ("value-save", "trap"): _TRAP,
    ("value-load", "trap"): _TRAP,
    ("value-cleanup", "trap"): _TRAP,
    # Clusters.
    ("cluster-create", "lost"): _shown(
        "One cluster exists: creating it again returns it.",
        _KUBERNETES + "create_returns_the_existing_object_when_the_response_is_lost",
    ),
    ("cluster-create", "api-server"): _API_REQUESTS,
    ("cluster-create", "step-worker-9"): _shown(
        "Cleanup deletes exactly the clusters of killed processes.",
        _ORPHANS,
    ),
    ("cluster-create", "token"): _shown(
        "The error names the rejected credentials and does not contain the token.",
        _REFUSED + "test_the_error_for_rejected_credentials_does_not_contain_the_token",
        _SANDBOX + "kubernetes.rs::a_token_renewed_in_the_kubeconfig_is_used",
    ),
    ("cluster-create", "second"): _shown(
        "Two deployments in one namespace do not share clusters.",
        _CLUSTER + "test_deployments_in_one_namespace_do_not_share_clusters",
    ),
    ("cluster-create", "operator-down"): _shown(
        "The error suggests that the operator is down, and the cluster is deleted.",
        _REFUSED + "test_the_error_without_an_operator_suggests_that_it_is_down",
    ),
    ("cluster-wait", "operator-down"): _shown(
        "Waiting goes on when the operator is back. Otherwise the error names it.",
        _CLUSTER + "test_waiting_survives_restarts_of_the_api_server_and_the_operator",
        _REFUSED + "test_the_error_without_an_operator_suggests_that_it_is_down",
    ),
    ("cluster-wait", "api-server"): _shown(
        "Waiting goes on when the API server is back.",
        _CLUSTER + "test_waiting_survives_restarts_of_the_api_server_and_the_operator",
    ),
    ("cluster-wait", "pod-evicted"): _shown(
        "Waiting survives the restart of a killed head.",
        _REFUSED + "test_waiting_survives_the_restart_of_a_killed_head",
    ),
    ("cluster-wait", "reset"): _shown(
        "A watch resumes after a broken stream.",
        _WATCH + "a_watch_resumes_after_a_broken_stream_and_lists_again_after_410",
    ),
    ("cluster-wait", "timeout"): _shown(
        "A cluster that never starts is an error after the time, with the reason.",
        _SIMULATED + "test_a_slow_cluster_is_awaited_and_one_that_never_starts_times_out",
    ),
    ("cluster-wait", "step-worker-9"): _shown(
        "Cleanup deletes exactly the clusters of killed processes.",
        _ORPHANS,
    ),
    ("cluster-use", "step-worker-9"): _shown(
        "Cleanup deletes exactly the clusters of killed processes.",
        _ORPHANS,
    ),
    ("cluster-share", "second"): _shown(
        "A cluster is shared only within its deployment.",
        _SHARE + "a_shared_cluster_is_joined_only_within_its_deployment",
    ),
    ("cluster-share", "step-worker-9"): _shown(
        "The lease of a killed process expires, and the cluster with it.",
        _EXPIRE + "a_cluster_expires_by_age_or_lost_leases_unless_its_run_or_a_lease_is_live",
    ),
    ("cluster-delete", "second"): _shown(
        "Clusters of other deployments, and of none, are kept.",
        _CLEANUP + "test_cleanup_keeps_the_clusters_of_other_deployments_and_of_none",
    ),
    ("cluster-delete", "5xx"): _shown(
        "The other clusters are deleted when one cannot be deleted.",
        _CLEANUP + "test_cleanup_deletes_the_other_clusters_when_one_cannot_be_deleted",
    ),
    # Pipes.
    ("pipes-follow", "dashboard-9"): _shown(
        "The output arrives completely and once.",
        _D + "test_pipes_faults.py::test_output_arrives_completely_despite_a_restarted_dashboard",
    ),
    ("pipes-follow", "sigint"): _shown(
        "An interrupt at any moment stops the script.",
        _D + "test_pipes_faults.py::test_an_interrupt_at_any_moment_stops_the_job",
    ),
    ("pipes-launch", "sigint"): _shown(
        "An interrupt at any moment stops the script.",
        _D + "test_pipes_faults.py::test_an_interrupt_at_any_moment_stops_the_job",
    ),
    ("pipes-await", "sigint"): _shown(
        "An interrupt at any moment stops the script.",
        _D + "test_pipes_faults.py::test_an_interrupt_at_any_moment_stops_the_job",
    ),
    ("pipes-terminate", "sigint"): _shown(
        "The script is stopped with one request.",
        _D + "test_pipes_faults.py::test_terminating_the_run_stops_the_job_once",
    ),
    # Values.
    ("value-save", "step-worker-9"): _shown(
        "The previous value stays, or the new one is complete.",
        _ON_RAY + "test_a_killed_writer_leaves_a_complete_value_in_the_registry",
        _ON_RAY + "test_a_killed_writer_leaves_the_previous_value_in_a_directory",
    ),
    ("value-save", "second"): _shown(
        "A deployment does not find, overwrite or remove the values of another one.",
        _D + "test_io_manager.py::test_a_deployment_leaves_the_values_of_another_alone",
    ),
    ("value-save", "disk-full"): _shown(
        "The error says so. In a directory, the previous value stays, and no file is left.",
        _DISK + "test_a_value_that_does_not_fit_leaves_the_previous_one_and_no_file",
    ),
    ("value-cleanup", "second"): _shown(
        "A deployment does not remove the values of another one.",
        _VALUES + "a_deployment_neither_finds_nor_removes_values_of_another",
    ),
    ("value-cleanup", "run-worker-9"): _shown(
        "The values of a run that has ended are removed later.",
        _VALUES + "deleting_expired_values_removes_those_of_ended_runs_and_keeps_assets",
    ),
    # Components.
    ("swap", "disk-full"): _shown(
        "A component is called although its compiled code cannot be cached. "
        "A truncated file is refused.",
        _DISK + "test_a_component_is_called_although_its_code_cannot_be_cached",
        _D + "test_component_files.py::test_a_truncated_file_is_refused_with_its_name",
    ),
    ("swap", "daemon-9"): Impossible(
        "No state of a component outlives a call, so the new daemon loads the file."
    ),
    ("swap", "trap"): _shown(
        "A file that does not load is an error of the call. A good one at the same path works.",
        _D + "test_component_files.py::test_a_replaced_file_is_used_from_the_next_call",
    ),
    ("swap", "run-worker-9"): Impossible("No state of a component outlives a call."),
    ("swap", "timeout"): _shown(
        "A loop while the component starts ends at the deadline.",
        _SANDBOX + "start.rs::a_loop_in_the_start_function_ends_at_the_deadline",
    ),
}

# A run under way uses the network only through the health checks of the run and of its steps.
for _fault in ("partition", "loss", "reset", "half", "lost", "429", "5xx", "token"):
    for _operation in ("run", "step"):
        SHOWN[_operation, _fault] = _shown(
            "It stays under way: only health checks use the network.", _HEALTH.format(_fault)
        )
# Without Redis, which this project does not set up, a new GCS is a new session.
SHOWN["run", "gcs-restart"] = _shown(
    "Without Redis a restarted GCS is a new session, as in the column for that.",
    "tests/faults/test_cells.py::test_cell_without_ray[run+session]",
)
for _fault in ("raylet-9", "head-9", "session"):
    SHOWN["step", _fault] = _shown(
        "The same test as for a run under way, whose worker is on the same node.",
        f"tests/faults/test_cells.py::test_cell_without_ray[run+{_fault}]",
    )
SHOWN["step", "gcs-restart"] = SHOWN["run", "gcs-restart"]
SHOWN["step", "daemon-9"] = Impossible("The daemon does not take part in a step.")
SHOWN["step", "dashboard-9"] = _shown(
    "The same test as for a run under way, which has a step.",
    "tests/faults/test_cells.py::test_cell[run+dashboard-9]",
)
