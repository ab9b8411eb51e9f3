"""The benchmarks leave out failed attempts and measure only release builds."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHES = Path(__file__).parents[1] / "bench"


def _module(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{file.parent.name}_{file.stem}", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_failed_attempts_are_listed_and_excluded_from_the_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHES))
    run = _module(BENCHES / "pipes" / "run.py")
    tried = []

    def attempt(count: int) -> dict[str, Any]:
        tried.append(count)
        if count > 400_000:
            return {"arrived": False, "grown_mib": 9_999}
        return {"arrived": True, "lines_per_second": 7, "grown_mib": 1}

    count, figures, lost = run.most_lines(attempt, 3_000_000)
    assert tried == [3_000_000, 1_000_000, 333_333]
    assert (count, lost) == (333_333, [3_000_000, 1_000_000])
    assert figures == {"arrived": True, "lines_per_second": 7, "grown_mib": 1}
    with pytest.raises(SystemExit, match="no message arrives"):
        run.most_lines(lambda count: {"arrived": False}, 3_000_000)


def test_an_attempt_whose_process_crashes_counts_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHES))
    run = _module(BENCHES / "pipes" / "run.py")
    monkeypatch.setattr(run, "MEASURE", Path("no such file"))
    assert run.attempt(sys.executable, "dagster-ray", 1000) == {"arrived": False}


@pytest.mark.parametrize(
    ("native", "refused"),
    [
        ("PROFILE = 'release'", None),
        ("PROFILE = 'debug'", "is a debug build"),
        ("", "does not say how it was built"),
    ],
)
def test_only_a_release_build_is_measured(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    native: str,
    refused: str | None,
) -> None:
    package = tmp_path / "dagster_ray"
    package.mkdir()
    (package / "__init__.py").write_text("__version__ = '7.7'\n")
    (package / "_native.py").write_text(native)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    announce = _module(BENCHES / "measured_build.py").announce
    if refused is None:
        announce(sys.executable)
        printed = capfd.readouterr().out
        assert "7.7, release build" in printed and str(package / "_native.py") in printed
    else:
        with pytest.raises(SystemExit, match=refused):
            announce(sys.executable)


def test_the_extension_reports_its_build_profile() -> None:
    from dagster_ray import _native

    assert _native.PROFILE in ("release", "debug")


def test_a_benchmark_replaces_its_own_section_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHES))
    report = _module(BENCHES / "report.py")
    page = "# P\n<!-- begin a -->\nold\n<!-- end a -->\n<!-- begin b -->\nkept\n<!-- end b -->\n"
    written = report.with_section(page, "a", "new\n")
    assert written == page.replace("old", "new")
    with pytest.raises(SystemExit, match="begin c"):
        report.with_section(page, "c", "new\n")
    for run in BENCHES.glob("*/run.py"):
        begin = f"<!-- begin {run.parent.name} -->\n"
        assert begin in report.PAGE.read_text()
