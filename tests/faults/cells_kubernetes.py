"""The cells of Kubernetes and of clusters that other tests show, or that cannot happen."""

from cells import Cells

_D = "tests/dagster/"
_REFUSED = _D + "test_kuberay_faults.py::"
_RUNS = _D + "test_kuberay_runs.py::"
_KUBERNETES = "components/kuberay/src/kubernetes/mod.rs::"
_FOLLOW = "components/kuberay/src/pipes/follow/tests.rs::"

_CREATES = ("launch", "step-launch", "resume", "pipes-launch")
_DELETES = ("terminate", "pipes-terminate", "cluster-delete")
_CLUSTERS = ("cluster-create", "cluster-wait", "cluster-use", "cluster-share", "cluster-delete")

KUBERNETES = Cells()


# The operator.
KUBERNETES.impossible(
    _CREATES, "operator-down", "It creates an object, which does not wait for the operator."
)
KUBERNETES.shown(
    ("pipes-follow", "pipes-await"),
    "operator-down",
    "The script goes on, as a run under way does. Its end is seen when the operator is back.",
    _RUNS + "test_a_run_survives_restarts_of_the_api_server_and_the_operator",
)
KUBERNETES.shown(
    _DELETES,
    "operator-down",
    "A cluster is deleted without the operator. A RayJob ends when the operator is back.",
    _REFUSED + "test_a_cluster_is_deleted_while_the_operator_is_down",
)

# Pods and nodes. The pods of a node that is gone are deleted by Kubernetes, as evicted ones.
_HEAD_GONE = "test_a_cluster_is_deleted_when_its_step_fails_because_the_head_is_gone"
for _fault in ("pod-evicted", "node-gone"):
    KUBERNETES.shown(
        ("run", "health", *(("step",) if _fault == "node-gone" else ())),
        _fault,
        "The worker is reported as failed with the reason, by the rule that steps have, too.",
        _RUNS + "test_a_step_whose_head_is_killed_fails_with_a_reason",
    )
    KUBERNETES.impossible(
        ("terminate", "pipes-terminate"),
        _fault,
        "It deletes the object, whether its pods are there or not.",
    )
    KUBERNETES.shown(
        ("cluster-use",),
        _fault,
        "The step fails, and its cluster is deleted.",
        _REFUSED + _HEAD_GONE,
    )
    KUBERNETES.shown(
        ("cluster-share", *(("cluster-wait",) if _fault == "node-gone" else ())),
        _fault,
        "A cluster is awaited until its head runs again.",
        _REFUSED + "test_waiting_survives_the_restart_of_a_killed_head",
    )
    KUBERNETES.shown(
        ("pipes-follow", "pipes-await"),
        _fault,
        "A second execution is followed from its beginning. Without one, the script has failed.",
        _FOLLOW + "a_job_that_is_submitted_again_to_a_restarted_head_is_followed_from_its_"
        "beginning",
        _D + "test_kuberay_pipes.py::test_a_script_whose_cluster_is_deleted_at_once_does_not_hang",
    )
for _fault in ("raylet-9", "head-9", "gcs-restart", "session"):
    KUBERNETES.shown(
        ("cluster-use",),
        _fault,
        "Ray in a pod ends with its container. The step fails, and its cluster is deleted.",
        _REFUSED + _HEAD_GONE,
    )

# Requests to the API server.
KUBERNETES.shown(
    _CLUSTERS,
    "half",
    "A response that breaks is a failed request, which is repeated.",
    _KUBERNETES + "requests_to_a_restarting_api_server_are_retried",
)
KUBERNETES.shown(
    ("cluster-wait", "cluster-use", "cluster-share"),
    "lost",
    "Reads and updates can be repeated.",
    "components/sdk/src/http/client.rs::"
    "only_requests_that_can_be_repeated_are_sent_again_after_a_lost_response",
)
KUBERNETES.shown(
    ("cluster-delete",),
    "lost",
    "The repeated request finds the cluster missing, which is a success.",
    _KUBERNETES
    + "delete_sends_preconditions_and_finds_the_object_missing_when_the_response_is_lost",
)
KUBERNETES.shown(
    _CLUSTERS,
    "tls",
    "A certificate that is not trusted is refused before anything is sent. "
    "The rotation itself is not tested.",
    "tests/sandbox/tests/sandbox/cluster.rs::an_untrusted_server_certificate_stops_the_request",
)

# The process that has a cluster.
_INTERRUPTED = _REFUSED + "test_an_interrupted_step_deletes_its_cluster"
for _fault in ("sigterm", "sigint"):
    KUBERNETES.shown(
        ("cluster-create", "cluster-wait", "cluster-use"),
        _fault,
        "The step is interrupted, and its cluster is deleted.",
        _INTERRUPTED,
    )
KUBERNETES.shown(
    ("cluster-share", "cluster-delete"),
    "sigint",
    "An interrupted run releases the cluster that its steps share. Both signals are one interrupt.",
    _D + "test_executor_end.py::test_an_interrupted_run_releases_what_its_steps_shared",
)
KUBERNETES.shown(
    ("cluster-delete",),
    "daemon-9",
    "The next cleanup finds what is left, because it selects again by labels.",
    _D + "test_kuberay_orphans.py::test_cleanup_deletes_exactly_the_clusters_of_killed_processes",
)
KUBERNETES.shown(
    ("cluster-delete",),
    "clock",
    "The age of a cluster is measured by the API server's clock.",
    "components/kuberay/src/cluster/share.rs::"
    "a_renewal_uses_the_api_servers_time_and_removes_expired_leases",
)
KUBERNETES.shown(
    ("cluster-use",),
    "timeout",
    "A call that does not return ends at its deadline, and the next call works.",
    _D + "test_sandbox.py::test_each_attack_has_the_listed_outcome_before_and_after_ray_init",
)
