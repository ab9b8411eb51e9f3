"""An OCI registry for tests that push and pull components."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def registry() -> Iterator[str]:
    """The address of a registry in a process of its own."""
    program = os.environ.get("DAGSTER_RAY_TEST_REGISTRY")
    if program is None:
        pytest.skip("DAGSTER_RAY_TEST_REGISTRY names no registry (`cargo xtask test` builds one)")
    configuration = Path(__file__).parents[1] / "cluster/programs/registry/config.yml"
    process = subprocess.Popen(
        [program, "serve", str(configuration)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    matches = (re.search(r"listening on 127\.0\.0\.1:(\d+)", line) for line in process.stderr)
    port = next(match[1] for match in matches if match)
    yield f"oci://127.0.0.1:{port}"
    process.kill()
    process.wait()
