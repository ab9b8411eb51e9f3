"""Builds third-party backends, and starts the command runner that some of them call."""

import json
import os
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from component_files import put

ROOT = Path(__file__).parents[2]
# All crates share one target directory.
_TARGET = ROOT / "target/third-party"
_COMPONENTIZE = Path(sys.executable).with_name("componentize-py")


def build_rust(folder: Path, name: str) -> Path:
    """Builds a crate for wasm32-wasip2."""
    build = ("cargo", "build", "--release", "--target", "wasm32-wasip2", "--target-dir")
    _run(*build, str(_TARGET), cwd=folder)
    return _TARGET / f"wasm32-wasip2/release/{name}.wasm"


def packaged_sdk(into: Path) -> Path:
    """Packages the Rust SDK as for a registry, and returns the folder of the unpacked package."""
    package = ("cargo", "package", "--package", "dagster-ray-sdk", "--no-verify", "--allow-dirty")
    offline = ("--offline", "--exclude-lockfile", "--target-dir", str(into / "target"))
    _run(*package, *offline, cwd=ROOT)
    [crate] = (into / "target/package").glob("*.crate")
    with tarfile.open(crate) as archive:
        archive.extractall(into, filter="data")
    return into / crate.stem


def build_python(folder: Path, into: Path, *world: str) -> Path:
    """Builds a Python app."""
    wasm = into / "built.wasm"
    _run(str(_COMPONENTIZE), *world, "componentize", "app", "-o", str(wasm), cwd=folder)
    return wasm


@cache
def example(language: str, into: Path) -> Path:
    """Builds an example backend, and returns a copy that no other test changes."""
    folder = ROOT / "examples" / f"backend-in-{language}"
    if language == "rust":
        built = build_rust(folder, "command_runner")
    else:
        built = into / "python-built.wasm"
        environment = {**os.environ, "COMPONENTIZE_PY": str(_COMPONENTIZE)}
        _run(str(folder / "build.sh"), str(built), cwd=folder, env=environment)
    return beside(built, folder / "command_runner.toml", into / f"{language}.wasm")


def beside(wasm: Path, manifest: Path, target: Path) -> Path:
    """Copies a component to `target` with `manifest` beside it, unchanged."""
    put(wasm, target)
    target.with_suffix(".toml").write_text(manifest.read_text())
    return target


def _run(*line: str, cwd: Path, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(line, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


def build_project(folder: Path) -> Path:
    """Builds a project of `dagster-ray new` as its README says, and returns the component."""
    built = dagster_ray("build", str(folder), CARGO_TARGET_DIR=str(_TARGET))
    assert built.returncode == 0, built.stderr
    return folder / f"{folder.name.replace('-', '_')}.wasm"


def dagster_ray(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command `dagster-ray` of the installed package."""
    line = (str(Path(sys.executable).with_name("dagster-ray")), *arguments)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, **environment}
    return subprocess.run(line, env=variables, capture_output=True, text=True)


class Runner:
    """Client of a running command runner (`examples/command-runner`)."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.headers = {"Authorization": f"Bearer {token}"}

    def get(self, path: str) -> Any:
        request = urllib.request.Request(self.url + path, headers=self.headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.loads(response.read())

    def jobs(self, run_id: str) -> dict[str, dict[str, Any]]:
        """Returns the jobs of a Dagster run by job id."""
        jobs = self.get("/jobs")
        return {job["id"]: job for job in jobs if job["labels"].get("dagster/run-id") == run_id}


@contextmanager
def command_runner(root: Path) -> Iterator[Runner]:
    token = root / "token"
    script = ROOT / "examples/command-runner/command_runner.py"
    # The runner starts workers by the name `dagster`.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (root / "command-runner.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(script), "--port", "0", "--token-file", str(token)],
            env={**os.environ, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url.startswith("http://"), "see command-runner.log"
            yield Runner(url, token.read_text())
        finally:
            process.terminate()
            assert process.wait(30) == 0
