"""Functions under their module path in `dagster-ray` from PyPI."""

from dagster_ray.kuberay.field_names import (
    merge_extra_k8s_fields,
    remove_none_from_dict,
    to_camel_case,
)
from dagster_ray.kuberay.label_values import normalize_k8s_label_values
from dagster_ray.kuberay.service_names import k8s_service_fqdn

__all__ = [
    "k8s_service_fqdn",
    "merge_extra_k8s_fields",
    "normalize_k8s_label_values",
    "remove_none_from_dict",
    "to_camel_case",
]
