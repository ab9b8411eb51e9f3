"""The Kubernetes namespace of everything for which no namespace is configured."""

import os

NAMESPACE_VARIABLE = "DAGSTER_RAY_NAMESPACE"
"""The environment variable with the default namespace."""

DEFAULT_NAMESPACE = "ray"
"""The default of the component `kuberay`, for objects whose namespace is read before they exist."""


def configured_namespace() -> str | None:
    """Returns the default namespace of the environment, or `None` without one."""
    return os.environ.get(NAMESPACE_VARIABLE) or None


def worker_namespace() -> dict[str, str]:
    """Returns the variable that gives a worker the default namespace of this process."""
    namespace = configured_namespace()
    return {} if namespace is None else {NAMESPACE_VARIABLE: namespace}


def default_namespace() -> str:
    """Returns the namespace of an object that names none."""
    return configured_namespace() or DEFAULT_NAMESPACE


__all__ = [
    "DEFAULT_NAMESPACE",
    "NAMESPACE_VARIABLE",
    "configured_namespace",
    "default_namespace",
    "worker_namespace",
]
