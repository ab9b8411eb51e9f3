"""KubeRay's names of fields."""

from collections.abc import Mapping
from typing import Any

# Fields whose KubeRay name is not the camelCase form of their Python name.
_SPELLED = {"runtime_env_yaml": "runtimeEnvYAML", "runtimeEnvYaml": "runtimeEnvYAML"}


def to_camel_case(name: str) -> str:
    """Returns a snake_case name in camelCase. A name without underscores is not changed."""
    head, *rest = name.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in rest)


def kuberay_name(name: str) -> str:
    """Returns KubeRay's name of a field."""
    return _SPELLED.get(name) or to_camel_case(name)


def remove_none_from_dict(d: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy without the entries that are `None`."""
    return {key: value for key, value in d.items() if value is not None}


def merge_extra_k8s_fields(
    manifest: Mapping[str, Any], extras: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Returns a manifest with further fields under their camelCase names, without those of `None`.

    Raises `ValueError` for a field that the manifest, or another field, already sets.
    """
    merged = dict(manifest)
    spelled: dict[str, str] = {}
    for name, value in (extras or {}).items():
        key = to_camel_case(name)
        if key in manifest or key in spelled:
            by = spelled.get(key, "the manifest")
            raise ValueError(f"{name}: {key} is already set by {by}; keep one")
        spelled[key] = name
        if value is not None:
            merged[key] = value
    return merged


__all__ = ["kuberay_name", "merge_extra_k8s_fields", "remove_none_from_dict", "to_camel_case"]
