"""Keeps the metrics of a training run, and prints them as a table."""

import math
from collections.abc import Mapping, Sequence

# Dagster stores the table in its database.
_MAX_ROWS = 200


def numbers(metrics: Mapping[str, object]) -> dict[str, float]:
    """Returns the metrics that are finite numbers, also those of NumPy and of nested mappings."""
    found: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            nested: Mapping[str, object] = value  # pyright: ignore[reportUnknownVariableType]
            found |= {f"{name}/{key}": number for key, number in numbers(nested).items()}
            continue
        if isinstance(value, bool | str | bytes) or value is None:
            continue
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            continue
        if math.isfinite(number):
            found[name] = number
    return found


def markdown(rows: Sequence[Mapping[str, object]]) -> str:
    """Returns rows as a Markdown table. A long series is thinned out; its last row is kept."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stride = -(-len(rows) // _MAX_ROWS)
    kept = list(rows[::-1][:: max(stride, 1)])[::-1]
    lines = [_line(columns), _line(["---"] * len(columns))]
    lines.extend(_line([_cell(row.get(name)) for name in columns]) for row in kept)
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


__all__ = ["markdown", "numbers"]
