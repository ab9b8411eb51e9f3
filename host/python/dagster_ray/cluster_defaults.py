"""Defaults of clusters, which a test of components/kuberay writes."""

IMAGE_TAG = "dagster/image"
LEASE_TTL_SECONDS = 1800.0
JOIN_TIMEOUT_SECONDS = 120.0
