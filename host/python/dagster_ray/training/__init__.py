"""For scripts on Ray: reports of training runs to Dagster, through Dagster Pipes.

Importing this package imports neither Dagster nor Ray.
"""

from dagster_ray.training.reports import TrainingReports

__all__ = ["TrainingReports"]
