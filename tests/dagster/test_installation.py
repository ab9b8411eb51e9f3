"""Conflicts with PyPI's `dagster-ray` in the same environment.

Each test installs wheels with pip into a new virtual environment. The wheel of PyPI's distribution
has its name and one of its modules; the wheel of this one has this package's Python files.
"""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import dagster_ray
import pytest

PACKAGE = Path(dagster_ray.__file__).parent
REMEDY = "pip uninstall -y dagster-ray dagster-ray-wasm && pip install dagster-ray-wasm"
PYPI = {"dagster_ray/__init__.py": b"ORIGIN = 'PyPI'\n"}


def _wheel(folder: Path, name: str, files: dict[str, bytes]) -> Path:
    stem = f"{name.replace('-', '_')}-0.4.8"
    wheel = folder / f"{stem}-py3-none-any.whl"
    info = f"{stem}.dist-info"
    files = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.4.8\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
        archive.writestr(
            f"{info}/RECORD", "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
        )
    return wheel


class Environment:
    """An empty virtual environment, and the wheels of both distributions."""

    def __init__(self, folder: Path) -> None:
        files = {
            f"dagster_ray/{path.relative_to(PACKAGE)}": path.read_bytes()
            for path in PACKAGE.rglob("*.py")
        }
        self.own = str(_wheel(folder, "dagster-ray-wasm", files))
        self.pypi = str(_wheel(folder, "dagster-ray", PYPI))
        home = folder / "environment"
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        self._python = str(home / "bin/python")

    def pip(self, *arguments: str) -> None:
        command = [self._python, "-m", "pip", "--disable-pip-version-check", *arguments]
        subprocess.run(command, check=True, capture_output=True)

    def install(self, *wheels: str) -> None:
        for wheel in wheels:
            self.pip("install", "--no-index", "--no-deps", wheel)

    def run(self, code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self._python, "-I", "-c", code], capture_output=True, text=True)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path)


def test_import_fails_with_the_remedy_when_this_package_is_installed_last(
    environment: Environment,
) -> None:
    environment.install(environment.own)
    alone = environment.run("import dagster_ray; print(dagster_ray.__version__)")
    assert (alone.returncode, alone.stderr) == (0, ""), "this distribution alone is no conflict"

    environment.install(environment.pypi)
    environment.pip("install", "--no-index", "--no-deps", "--force-reinstall", environment.own)
    for code in ("import dagster_ray", "import dagster_ray.executor"):
        refused = environment.run(code)
        assert refused.returncode == 1
        sentence = refused.stderr.strip().splitlines()[-1]
        assert sentence.startswith("ImportError: dagster-ray 0.4.8 and dagster-ray-wasm are both")
        assert sentence.endswith(f"run `{REMEDY}`")


def test_command_and_pytest_plugin_fail_when_pypis_package_is_installed_last(
    environment: Environment,
) -> None:
    environment.install(environment.own, environment.pypi)
    # The `__init__.py` of PyPI's package runs, so importing the package alone cannot fail.
    imported = environment.run("import dagster_ray; print(dagster_ray.ORIGIN)")
    assert imported.stdout == "PyPI\n", imported.stderr

    command = environment.run("import sys; from dagster_ray.cli import main; sys.exit(main())")
    assert command.returncode == 1
    assert command.stderr.startswith("error: dagster-ray 0.4.8 and dagster-ray-wasm are both")
    assert REMEDY in command.stderr and "Traceback" not in command.stderr

    # The new environment has no pytest; the plugin imports the one that runs this test.
    known = sysconfig.get_paths()["purelib"]
    plugin = environment.run(f"import sys; sys.path.append({known!r}); import dagster_ray.testing")
    assert plugin.returncode == 1
    assert REMEDY in plugin.stderr.strip().splitlines()[-1]


def test_command_reports_modules_that_uninstalling_pypis_package_removed(
    environment: Environment,
) -> None:
    environment.install(environment.pypi, environment.own)
    environment.pip("uninstall", "-y", "dagster-ray")
    command = environment.run("import sys; from dagster_ray.cli import main; sys.exit(main())")
    assert command.returncode == 1
    assert "modules of dagster-ray-wasm are missing" in command.stderr
    assert "--force-reinstall" in command.stderr
