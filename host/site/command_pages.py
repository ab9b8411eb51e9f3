"""The reference of the command `dagster-ray`: its own help texts."""

import os
import re
import subprocess
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_COMMAND = re.compile(r"^  ([a-z]+) {2,}", re.MULTILINE)


def options() -> str:
    """Returns a section for the command and for each of its subcommands."""
    main = printed("--help")
    listed = main.partition("Commands:\n")[2].partition("\n\n")[0]
    sections = ["## Options", _text(main)]
    for name in _COMMAND.findall(listed + "\n"):
        sections += [f"### dagster-ray {name}", _text(printed(name, "--help"))]
    return "\n\n".join(sections) + "\n"


def explained() -> str:
    """Returns the reference of all options that `dagster-ray explain` prints, if it exists."""
    if not re.search(r"^  explain ", printed("--help"), re.MULTILINE):
        return ""
    return printed("explain", "--markdown")


@cache
def printed(*arguments: str) -> str:
    """Returns what the command prints."""
    python = os.environ.get("DAGSTER_RAY_DOCS_PYTHON", str(_ROOT / ".venv/bin/python"))
    done = subprocess.run(
        [python, "-m", "dagster_ray", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(
            f"dagster-ray {' '.join(arguments)} failed with {python}: {done.stderr}. Run "
            "`cargo xtask docs`, which builds the package first"
        )
    return done.stdout


def _text(help_text: str) -> str:
    return f"```text\n{help_text.rstrip()}\n```"
