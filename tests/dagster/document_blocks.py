"""Finds the code blocks of documents and records which of them a test runs.

A test selects a block with a decorator (`page`, `readme`, `seed`) and gets its text as the argument
`printed`, or claims all blocks of a page that it follows (`whole_page`). `unclaimed` returns the
blocks that no test runs.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
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


def pages() -> dict[str, Path]:
    """Returns the pages of the documentation by their path in the repository."""
    files = [README, *sorted((ROOT / "docs").rglob("*.md"))]
    return {str(file.relative_to(ROOT)): file for file in files}


def page_block(page: str, heading: str, language: str, number: int = 1) -> str:
    """Returns the text of a block of a page, and records that a test runs it.

    `page` is the path in the repository, such as `docs/tutorial.md`.
    """
    key = f"{heading}: {language} {number}"
    known = {block.key: block.text for block in blocks((ROOT / page).read_text())}
    if key not in known:
        raise LookupError(f"{page} has no block {key!r}; it has {', '.join(known)}")
    _claimed.add(f"{page}: {key}")
    return known[key]


def page(path: str, heading: str, language: str, number: int = 1) -> pytest.MarkDecorator:
    """Passes the text of a block of a page to a test as `printed`."""
    text = page_block(path, heading, language, number)
    name = f"{Path(path).stem}-{language}-{number}"
    return pytest.mark.parametrize("printed", [text], ids=[name])


def whole_page(path: str, section: str | None = None) -> str:
    """Returns the text of a page, and records that a test runs its blocks, or those of a section.

    A section is what is below one heading.
    """
    text = (ROOT / path).read_text()
    found = [block for block in blocks(text) if section in (None, block.heading)]
    if not found:
        raise LookupError(f"{path} has no blocks{f' below {section!r}' if section else ''}")
    _claimed.update(f"{path}: {block.key}" for block in found)
    return text


def readme(heading: str, language: str, number: int = 1) -> pytest.MarkDecorator:
    """Passes the text of a block of README.md to a test as `printed`."""
    return page("README.md", heading, language, number)


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
    """Returns the blocks of all pages and the files of `seed_readme` that no imported test runs."""
    printed = {
        f"{path}: {block.key}"
        for path, file in pages().items()
        for block in blocks(file.read_text())
    }
    return (printed | {file.name for file in SEED.iterdir()}) - _claimed
