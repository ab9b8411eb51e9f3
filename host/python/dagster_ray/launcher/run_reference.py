"""The reference to a run's Ray job, as JSON in a run tag."""

import json
from collections.abc import Mapping
from typing import cast

from dagster_ray.contract import RunRef

# The run tag with the reference to the run's Ray job. Dagster's UI hides tags with this prefix.
RUN_REF_TAG = ".dagster/dagster-ray/run"


def read(tags: Mapping[str, str], run_id: str, attempt: int) -> RunRef | None:
    """Returns the reference in a run's tags, or `None` if they have none of this run and attempt.

    Dagster copies tags into automatic retries and re-executions, so a tag can name another run. It
    names an earlier attempt until the run is resumed.

    Raises `ValueError` if the tag is not a reference: users can write tags.
    """
    text = tags.get(RUN_REF_TAG)
    if text is None:
        return None
    ref = _parse(text)
    return ref if (ref["run_id"], ref["attempt"]) == (run_id, attempt) else None


def write(ref: RunRef) -> dict[str, str]:
    """Returns the run tags that keep a reference."""
    return {RUN_REF_TAG: json.dumps(ref)}


def _parse(text: str) -> RunRef:
    document = _object(json.loads(text), "the tag")
    job = _object(document.get("job"), "job")
    attempt = document.get("attempt")
    if not isinstance(attempt, int) or isinstance(attempt, bool):
        raise ValueError("attempt is not a number")
    return {
        "run_id": _text(document, "run_id"),
        "attempt": attempt,
        "job": {
            "submission_id": _text(job, "submission_id"),
            "dashboard_url": _optional_text(job, "dashboard_url"),
            "details": _optional_text(job, "details"),
        },
    }


def _object(value: object, name: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not a JSON object")
    return cast("dict[str, object]", value)


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is not a text")
    return value


def _optional_text(fields: Mapping[str, object], name: str) -> str | None:
    return None if fields.get(name) is None else _text(fields, name)


__all__ = ["RUN_REF_TAG", "read", "write"]
