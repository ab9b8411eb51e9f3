"""Values of Kubernetes labels, for code that selects objects by the labels of a Dagster run."""

import re
from collections.abc import Mapping

_SPELLED = {"@": "-at-", "+": "-plus-"}
_INVALID = re.compile(r"[^a-zA-Z0-9\-_.]")
_MAX_CHARS = 63
# The prefix of labels in `dagster-ray` 0.0.6.
_OLD_PREFIX = "dagster.io/"


def normalize_k8s_label_values(labels: Mapping[str, str]) -> dict[str, str]:
    """Returns the labels that the component `kuberay` writes for tags.

    A value gets at most 63 letters, digits, dashes, underscores and dots, with a letter or a digit
    at both ends. A key with the prefix `dagster.io/` gets the prefix `dagster/`.
    """
    return {_key(key): _value(value) for key, value in labels.items()}


def _value(text: str) -> str:
    for symbol, spelled in _SPELLED.items():
        text = text.replace(symbol, spelled)
    text = re.sub("-+", "-", _INVALID.sub("-", text))
    return text.lstrip("-_.")[:_MAX_CHARS].rstrip("-_.")


def _key(key: str) -> str:
    if not key.startswith(_OLD_PREFIX):
        return key
    name = key.removeprefix(_OLD_PREFIX)
    return "dagster/run-id" if name == "run_id" else f"dagster/{name}"


__all__ = ["normalize_k8s_label_values"]
