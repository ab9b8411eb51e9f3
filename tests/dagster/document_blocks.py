"""Code blocks of documents, and the tests that run them.

A test names the block that it runs with a mark (`readme`, `seed`) and gets its text as the argument
`printed`. `unclaimed` then tells which blocks no test runs.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
# The example blocks of the README of the package that this one replaces, each as printed there. Its
# section on developing that package is left out.
SEED = Path(__file__).parent / "seed_readme"

_HEADING = re.compile(r"#+ (.*)")
_FENCE = re.compile(r"```(\w*)")

_claimed: set[str] = set()


@dataclass(frozen=True)
class Block:
    """A fenced block of a Markdown document."""

    heading: str
    language: str
    # Counts the blocks of this language below this heading, from 1.
    number: int
    text: str

    @property
    def key(self) -> str:
        """Identifies the block within its document."""
        return f"{self.heading}: {self.language} {self.number}"


def blocks(document: str) -> Iterator[Block]:
    """Yields the fenced blocks of a Markdown document, in their order."""
    heading, language, lines = "", None, list[str]()
    counts: dict[tuple[str, str], int] = {}
    for line in document.splitlines():
        fence = _FENCE.fullmatch(line)
        if language is not None and line == "```":
            place = (heading, language)
            counts[place] = counts.get(place, 0) + 1
            yield Block(heading, language, counts[place], "\n".join(lines) + "\n")
            language = None
        elif language is not None:
            lines.append(line)
        elif fence:
            language, lines = fence[1], []
        elif found := _HEADING.fullmatch(line):
            heading = found[1]
    if language is not None:
        raise ValueError(f"the last {language} block below {heading!r} does not end")


def readme_block(heading: str, language: str, number: int = 1) -> str:
    """Returns the text of a block of README.md, and counts it as run by a test."""
    wanted = f"{heading}: {language} {number}"
    known = {block.key: block.text for block in blocks(README.read_text())}
    if wanted not in known:
        raise LookupError(f"README.md has no block {wanted!r}; it has {', '.join(known)}")
    _claimed.add(wanted)
    return known[wanted]


def readme(heading: str, language: str, number: int = 1) -> pytest.MarkDecorator:
    """Gives a test the text of a block of README.md as `printed`."""
    text = readme_block(heading, language, number)
    return pytest.mark.parametrize("printed", [text], ids=[f"README-{language}-{number}"])


def seed_block(name: str) -> str:
    """Returns the text of a file of `seed_readme`, and counts it as run by a test."""
    text = (SEED / name).read_text()
    _claimed.add(name)
    return text


def seed(name: str, *more: str) -> pytest.MarkDecorator:
    """Gives a test the text of each of these files of `seed_readme` as `printed`, one a case."""
    names = [name, *more]
    return pytest.mark.parametrize("printed", [seed_block(one) for one in names], ids=names)


def unclaimed() -> set[str]:
    """Returns the keys of README.md's blocks and the files of `seed_readme` that no imported test
    runs."""
    printed = {block.key for block in blocks(README.read_text())}
    return (printed | {file.name for file in SEED.iterdir()}) - _claimed
