"""A project for `dagster-ray` 0.4.8: a weather station, whose readings are processed on Ray."""
