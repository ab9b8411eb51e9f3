"""Runs the commands of the READMEs of examples."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
_BLOCK = re.compile(r"```(shell|text)\n(.*?)```", re.DOTALL)


def run_shell(commands: str, folder: Path, variables: Mapping[str, str] | None = None) -> str:
    """Runs commands in a folder, with the programs of this environment. Returns what they print."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env={**os.environ, "PATH": path, "COLUMNS": "200", **(variables or {})},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def run_example(name: str, to: Path, variables: Mapping[str, str]) -> str:
    """Copies an example, runs all commands of its README, and returns what they print.

    Each block of text of the README must be in it.
    """
    folder = shutil.copytree(EXAMPLES / name, to / name)
    blocks = _BLOCK.findall((folder / "README.md").read_text())
    commands = "\n".join(text for language, text in blocks if language == "shell")
    assert commands, f"the README of {name} has no commands"
    printed = run_shell(commands, folder, variables)
    for language, text in blocks:
        assert language == "shell" or text.strip() in printed, printed
    return printed
