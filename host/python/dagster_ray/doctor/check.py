"""The result of one check."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Outcome = Literal["ok", "warning", "failed", "not-checked"]


@dataclass(frozen=True)
class Check:
    """What one check found, and what to do about it."""

    name: str
    outcome: Outcome
    message: str
    remedy: str | None = None
    details: Mapping[str, object] = field(default_factory=dict[str, object])

    def document(self) -> dict[str, Any]:
        """Returns the result for JSON."""
        return asdict(self)

    def text(self) -> str:
        """Returns the result as lines of text."""
        title = self.outcome.replace("-", " ")
        lines = [f"{title:<11}  {self.name:<14}  {_indented(self.message)}"]
        if self.remedy is not None:
            lines.append(f"{'':<29}-> {_indented(self.remedy, 3)}")
        return "\n".join(lines)


def _indented(text: str, more: int = 0) -> str:
    """Aligns further lines with the first one."""
    return text.replace("\n", "\n" + " " * (29 + more))


def ok(name: str, message: str, **details: object) -> Check:
    """Returns the result of a check that found nothing wrong."""
    return Check(name, "ok", message, None, details)


def warning(name: str, message: str, remedy: str, **details: object) -> Check:
    """Returns the result of a check that found something that may be wrong."""
    return Check(name, "warning", message, remedy, details)


def failed(name: str, message: str, remedy: str, **details: object) -> Check:
    """Returns the result of a check that found something wrong."""
    return Check(name, "failed", message, remedy, details)


def not_checked(name: str, reason: str, remedy: str | None = None) -> Check:
    """Returns the result of a check that could not be made. `remedy` says how it could be."""
    return Check(name, "not-checked", reason, remedy)


__all__ = ["Check", "Outcome", "failed", "not_checked", "ok", "warning"]
