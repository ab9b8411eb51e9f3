"""What the arguments of the Pipes clients mean that are no fields of a configuration."""

ARGUMENTS = {
    "client": "The client of RayJobs, which has the kubeconfig. Default: that of kubectl.",
    "context_injector": (
        "Passes Dagster's context to the script. Default: in environment variables."
    ),
    "message_reader": (
        "Reads the script's messages. Default: from the output of the Ray job, while it runs."
    ),
    "forward_termination": "Whether the script is stopped when the step ends for another reason.",
    "timeout": (
        "How many seconds a script may be pending before its step fails. `math.inf` is no limit."
    ),
    "metadata": "Metadata or labels for each job, in addition to those of the Dagster run.",
    "poll_interval": "Ignored, for compatibility with `dagster-ray`: nothing is polled.",
    "create_cluster_if_needed": (
        "Ignored, for compatibility with `dagster-ray`: a backend starts what it needs."
    ),
    "port_forward": (
        "Ignored, for compatibility with `dagster-ray`: the host forwards ports itself."
    ),
    "backend": "The component that runs the scripts.",
}
"""The arguments by name."""
