"""The commands of the READMEs of examples that need no service."""

from pathlib import Path

import pytest
from example_commands import run_example


@pytest.mark.parametrize("name", ["partitions", "tests-with-faults"])
def test_the_commands_of_the_example(name: str, tmp_path: Path) -> None:
    assert run_example(name, tmp_path, {})
