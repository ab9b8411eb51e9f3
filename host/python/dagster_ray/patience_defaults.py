"""Defaults of the setting `patience`, which a test of components/submission writes."""

CHECK_SECONDS = 10.0
UNREACHABLE_SECONDS = 600.0
