"""The soak: random actions from a printed seed. Only with `--soak-minutes`."""

import json
import secrets
from collections.abc import Callable

import leaks
import pytest
from lab import Lab
from soak import Soak


@pytest.mark.quick
@pytest.mark.timeout(0)
def test_runs_end_in_the_state_that_happened_and_leave_nothing(
    labs: Callable[[], Lab], request: pytest.FixtureRequest
) -> None:
    minutes = request.config.getoption("--soak-minutes")
    if not minutes:
        pytest.skip("--soak-minutes is 0")
    seed = request.config.getoption("--soak-seed")
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    print(
        f"seed {seed}: `cargo xtask soak --seed {seed} --minutes {minutes:g}` repeats these actions"
    )
    lab = labs()
    before = leaks.snapshot(lab)
    results = Soak(lab, seed, minutes).run()
    try:
        leaks.check(lab, before)
        results["left"] = []
    except AssertionError as error:
        results["left"] = str(error).splitlines()[1:]
    file = request.config.getoption("--soak-results")
    if file is not None:
        file.write_text(json.dumps(results, indent=2))
    print(json.dumps(results, indent=2))
    assert not results["wrong"], "\n".join(results["wrong"])
    assert not results["left"], "\n".join(results["left"])
