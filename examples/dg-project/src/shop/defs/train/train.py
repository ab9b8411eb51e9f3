"""Fits a line. It runs as a Ray job, and reports to Dagster with Dagster Pipes."""

from dagster_pipes import open_dagster_pipes

POINTS = [(0.0, 1.1), (1.0, 2.9), (2.0, 5.2), (3.0, 6.8), (4.0, 9.1)]


def fit(rounds: int) -> tuple[float, float, float]:
    """Returns slope, intercept and mean squared error after some rounds of gradient descent."""
    slope = intercept = error = 0.0
    for _ in range(rounds * 1000):
        residuals = [(x, slope * x + intercept - y) for x, y in POINTS]
        slope -= 0.01 * sum(x * r for x, r in residuals) / len(POINTS)
        intercept -= 0.01 * sum(r for _, r in residuals) / len(POINTS)
        error = sum(r * r for _, r in residuals) / len(POINTS)
    return slope, intercept, error


with open_dagster_pipes() as pipes:
    slope, intercept, error = fit(pipes.get_extra("rounds"))
    pipes.log.info(f"y = {slope:.2f} x + {intercept:.2f}")
    pipes.report_asset_materialization(metadata={"slope": slope, "error": error})
    pipes.report_asset_check("error_is_small", passed=error < 0.1, metadata={"error": error})
