"""Why a step whose Ray job has ended did not succeed."""

from dagster_ray.contract import JobState, JobStatus


def unhealthy_reason(status: JobStatus, key: str) -> str:
    """Returns why a step failed whose job has ended without a report of the step's end."""
    of_step = f"Ray job {status['submission_id']} for step {key}"
    reasons: dict[JobState, str] = {
        "failed": (
            f"Discovered failed {of_step}. "
            f"Error type: {status['error_type']}. Message: {status['message']}"
        ),
        "stopped": f"{of_step} was stopped externally.",
        "missing": f"{of_step} could not be found.",
        "succeeded": f"{of_step} ended without reporting the step's result.",
    }
    state = status["state"]
    return reasons.get(state, f"{of_step} has ended ({state}).")


__all__ = ["unhealthy_reason"]
