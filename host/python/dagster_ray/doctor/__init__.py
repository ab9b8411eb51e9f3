"""The checks behind the command ``dagster-ray doctor``."""
