"""Follows a Markdown page literally: writes its files, runs its commands, compares the output.

A block of code belongs to the file that the text before it names last, in backticks. A block
`shell` contains commands, which all run in one shell. A block `text` shows lines of what the
commands before it print; `…` stands for any text. Needs only Python's standard library: the tests
of the wheel run this file in an empty environment.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"```(\w*)")
_NAME = re.compile(r"`([\w./-]+\.\w+)`")
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
# Printed between the outputs of two blocks.
_MARK = "\x1e"


@dataclass(frozen=True)
class Step:
    """A block of a page: a file, commands, or shown output."""

    language: str
    text: str
    # The file that the text before the block names.
    file: str | None


def steps(page: str, section: str | None = None) -> Iterator[Step]:
    """Yields the blocks of a page, or those below one heading of the second level."""
    inside, language, lines = section is None, None, list[str]()
    prose = ""
    for line in page.splitlines():
        fence = _FENCE.fullmatch(line)
        if language is not None and line == "```":
            if inside:
                names = _NAME.findall(prose)
                yield Step(language, "\n".join(lines) + "\n", names[-1] if names else None)
            language, prose = None, ""
        elif language is not None:
            lines.append(line)
        elif fence:
            language, lines = fence[1], []
        elif line.startswith("#"):
            prose = ""
            if section is not None and line.startswith("## "):
                inside = line == f"## {section}"
        else:
            prose += line + "\n"


def installs(step: Step) -> bool:
    """Returns whether the block installs packages."""
    return step.language == "shell" and "pip install" in step.text


def requirements(found: list[Step]) -> list[str]:
    """Returns the requirements that the page installs."""
    commands = (line for step in found if installs(step) for line in step.text.splitlines())
    words = (shlex.split(line) for line in commands if line.startswith("pip install "))
    return [word for line in words for word in line[2:]]


def follow(
    page: str,
    folder: Path,
    section: str | None = None,
    variables: Mapping[str, str] | None = None,
    timeout: float = 600,
) -> str:
    """Follows a page in a folder where its packages are installed. Returns all output.

    Raises `AssertionError` if a command fails, or does not print what the page shows.
    """
    found = [step for step in steps(page, section) if not installs(step)]
    assert any(step.language == "shell" for step in found), "the page has no commands to run"
    # Standard error is where Dagster logs.
    script = "set -euo pipefail\nexec 2>&1\n" + "".join(_commands(step) for step in found)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200", **(variables or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=timeout,
    )
    printed = _COLOR.sub("", done.stdout)
    assert done.returncode == 0, f"exit code {done.returncode}:\n{printed}"
    # The first part is empty: each step prints a mark before its output.
    outputs = printed.split(_MARK)[1:]
    last = ""
    for step, output in zip(found, outputs, strict=True):
        if step.language == "text":
            check_shown(step.text, last)
        elif step.language == "shell":
            last = output
    return printed.replace(_MARK, "")


def check_shown(shown: str, printed: str) -> None:
    """Raises `AssertionError` unless each line that a page shows is in what was printed."""
    for line in shown.splitlines():
        pattern = ".*".join(re.escape(part) for part in line.strip().split("…"))
        assert re.search(pattern, printed), f"not printed: {line!r}\n{printed}"


def _commands(step: Step) -> str:
    mark = f"printf '{_MARK}'\n"
    if step.language == "shell":
        return mark + step.text
    if step.language == "text":
        return mark
    assert step.file, f"the text before this block names no file:\n{step.text}"
    path = shlex.quote(step.file)
    end = "END_OF_THE_FILE"
    return f"{mark}mkdir -p $(dirname {path})\ncat > {path} <<'{end}'\n{step.text}{end}\n"


def main() -> None:
    """Follows a page in the current folder, or prints what it installs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--section", help="follow only what is below this heading")
    parser.add_argument("--requirements", action="store_true", help="print what the page installs")
    arguments = parser.parse_args()
    page = arguments.page.read_text()
    if arguments.requirements:
        found = requirements(list(steps(page, arguments.section)))
        sys.stdout.write("".join(f"{one}\n" for one in found))
    else:
        sys.stdout.write(follow(page, Path.cwd(), arguments.section))


if __name__ == "__main__":
    main()
