"""Module paths in `dagster-ray` from PyPI."""
