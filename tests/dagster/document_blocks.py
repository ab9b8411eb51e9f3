"""Finds the code blocks of documents and records which of them a test runs.

A test selects a block with a decorator (`readme`, `seed`) and gets its text as the argument
`printed`. `unclaimed` returns the blocks that no test runs.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
# The examples of the README of the package `dagster-ray` on PyPI, which this package replaces, as
# printed there. The section on developing that package is left out.
SEED = Path(__file__).parent / "seed_readme"

_HEADING = re.compile(r"#+ (.*)")
_FENCE = re.compile(r"```(\w*)")

_claimed: set[str] = set()


@dataclass(frozen=True)
class Block:
    """A fenced block of a Markdown document."""

    heading: str
    language: str
    # Position among the blocks of this language below this heading, from 1.
    number: int
    text: str

    @property
    def key(self) -> str:
        """Returns the block's identifier within its document."""
        return f"{self.heading}: {self.language} {self.number}"


def blocks(document: str) -> Iterator[Block]:
    """Yields the fenced blocks of a Markdown document in order."""
    heading, language, lines = "", None, list[str]()
    counts: dict[tuple[str, str], int] = {}
    for line in document.splitlines():
        fence = _FENCE.fullmatch(line)
        if language is not None and line == "```":
            section = (heading, language)
            counts[section] = counts.get(section, 0) + 1
            yield Block(heading, language, counts[section], "\n".join(lines) + "\n")
            language = None
        elif language is not None:
            lines.append(line)
        elif fence:
            language, lines = fence[1], []
        elif found := _HEADING.fullmatch(line):
            heading = found[1]
    if language is not None:
        raise ValueError(
            f"the {language} block below {heading!r} has no closing fence: add a line ```"
        )


def readme_block(heading: str, language: str, number: int = 1) -> str:
    """Returns the text of a block of README.md and records that a test runs it."""
    key = f"{heading}: {language} {number}"
    known = {block.key: block.text for block in blocks(README.read_text())}
    if key not in known:
        raise LookupError(f"README.md has no block {key!r}; it has {', '.join(known)}")
    _claimed.add(key)
    return known[key]


def readme(heading: str, language: str, number: int = 1) -> pytest.MarkDecorator:
    """Passes the text of a block of README.md to a test as `printed`."""
    text = readme_block(heading, language, number)
    return pytest.mark.parametrize("printed", [text], ids=[f"README-{language}-{number}"])


def seed_block(name: str) -> str:
    """Returns the text of a file of `seed_readme` and records that a test runs it."""
    text = (SEED / name).read_text()
    _claimed.add(name)
    return text


def seed(name: str, *more: str) -> pytest.MarkDecorator:
    """Parametrizes a test over these files of `seed_readme`; their text is passed as `printed`."""
    names = [name, *more]
    return pytest.mark.parametrize("printed", [seed_block(one) for one in names], ids=names)


def unclaimed() -> set[str]:
    """Returns the blocks of README.md and the files of `seed_readme` that no imported test runs."""
    printed = {block.key for block in blocks(README.read_text())}
    return (printed | {file.name for file in SEED.iterdir()}) - _claimed
