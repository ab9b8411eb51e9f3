"""The kinds of cells: run by the harness, shown by another test, impossible, or not tested yet."""

from dataclasses import dataclass

from operations import Operation
from strikes import Strike


@dataclass(frozen=True)
class Run:
    """The harness performs the operation and the fault, and checks what always must hold."""

    # What the user can rely on.
    holds: str
    operation: type[Operation]
    strike: Strike
    # The permitted ends. Whichever it is, it must be what really happened.
    ends: frozenset[str]
    # Whether `cargo xtask test` runs it.
    quick: bool = False
    # Whether the fault ends Ray, so that the next test needs another one.
    ends_ray: bool = False


@dataclass(frozen=True)
class Shown:
    """Other tests show it: `file::test` from the repository's root. A Rust test is its function."""

    holds: str
    by: tuple[str, ...]


@dataclass(frozen=True)
class Impossible:
    """The fault does not disturb the operation."""

    why: str


@dataclass(frozen=True)
class Untested:
    """No test shows what happens."""


Cell = Run | Shown | Impossible | Untested
Key = tuple[str, str]


class Cells(dict[Key, "Shown | Impossible"]):
    """The cells of one part of the matrix that other tests show, or that cannot happen."""

    def shown(self, rows: tuple[str, ...], column: str, holds: str, *by: str) -> None:
        """Adds the cells of a column that the same tests show."""
        self.update({(row, column): Shown(holds, by) for row in rows})

    def impossible(self, rows: tuple[str, ...], column: str, why: str) -> None:
        """Adds the cells of a column in which the fault does not disturb the operations."""
        self.update({(row, column): Impossible(why) for row in rows})
